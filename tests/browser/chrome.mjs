// Starts Chromium (or Firefox, with the option `browser`) with fake devices and serves the test pages to it.
//
// The pages come from an origin of their own (127.0.0.1, a secure context), so that each request to the
// server under test is a cross-origin one, as from a player on another site.
// A script reads its arguments as one JSON object from argv[2] and prints JSON lines on stdout.

import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { launchFirefox } from "./firefox.mjs";

const here = path.dirname(fileURLToPath(import.meta.url));
const pages = path.join(here, "pages");
const repository = path.join(here, "..", "..");
/** What is not one of the test pages. */
const others = {
  "/hls.mjs": path.join(repository, "node_modules", "hls.js", "dist", "hls.mjs"),
  "/shaka.js": path.join(repository, "node_modules", "shaka-player", "dist", "shaka-player.compiled.js"),
  "/steering.js": path.join(repository, "static", "js", "steering.js"),
};
const types = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".mjs": "text/javascript" };

/** The JSON object this script was called with. */
export const options = JSON.parse(process.argv[2] ?? "{}");

/** Prints one JSON line: `{ event, ...details }`. */
export function emit(event, details = {}) {
  process.stdout.write(`${JSON.stringify({ event, ...details })}\n`);
}

/** Calls `handle(line)` for each line on stdin, and `handle("stop")` at its end. */
export function onCommand(handle) {
  const lines = createInterface({ input: process.stdin });
  lines.on("line", (line) => handle(line.trim()));
  lines.on("close", () => handle("stop"));
}

/** Serves `pages/`, hls.js, shaka-player and the watch page's steering on a free port of 127.0.0.1. */
async function servePages() {
  const server = createServer(async (request, response) => {
    const name = new URL(request.url, "http://localhost").pathname;
    const file = others[name] ?? path.join(pages, path.basename(name));
    try {
      const body = await readFile(file);
      response.writeHead(200, { "content-type": types[path.extname(file)] ?? "application/octet-stream" });
      response.end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  return { server, origin: `http://127.0.0.1:${server.address().port}` };
}

function launchChromium() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    ignoreDefaultArgs: ["--mute-audio"],
    args: [
      "--headless=new",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--autoplay-policy=no-user-gesture-required",
      "--use-fake-device-for-media-stream",
      "--use-fake-ui-for-media-stream",
    ],
  });
}

/**
 * Runs `body(page)` in a fresh browser, then closes everything.
 * What fails is printed as `{ event: "failed", message }` and ends the process with 1.
 */
export async function withPage(body) {
  const { server, origin } = await servePages();
  let browser;
  let code = 0;
  try {
    browser = await (options.browser === "firefox" ? launchFirefox() : launchChromium());
    const page = await browser.newPage();
    page.on("console", (message) => process.stderr.write(`[page] ${message.text()}\n`));
    page.on("pageerror", (error) => process.stderr.write(`[page error] ${error.stack ?? error}\n`));
    await page.exposeFunction("emit", (event, details) => emit(event, details));
    await page.goto(`${origin}/client.html`);
    await body(page);
  } catch (error) {
    emit("failed", { message: String(error.message ?? error) });
    code = 1;
  }
  await browser?.close().catch(() => {});
  server.close();
  process.exit(code);
}
