// The watch page in Chromium, while its publisher goes and comes back.
//   node tests/browser/watch_page.mjs '{"url":"http://127.0.0.1:8080/show?transport=hls"}'
// Options: url; browser "chromium" or "firefox".
// Prints `playing` once the picture moves; then a `paused` line each time the page says that it waits for the
// publisher, and `resumed` when the picture moves again after that. Commands on stdin: `look` (a `looked` line: how far
// the picture moves in 3 s, and how often the page was loaded), `stop` or end of input.

import { emit, onCommand, options, withPage } from "./chrome.mjs";

await withPage(async (page) => {
  let loads = 0;
  page.on("framenavigated", (frame) => (loads += frame === page.mainFrame() ? 1 : 0));
  await page.goto(options.url);
  await page.evaluate(() => {
    const { video } = window.tidegate;
    const pause = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));
    const hint = document.getElementById("message");
    const waits = () => !hint.hidden && document.getElementById("message-title").textContent === "Waiting for the publisher";
    const moves = async () => {
      for (;;) {
        const from = video.getVideoPlaybackQuality().totalVideoFrames;
        await pause(0.3);
        if (!waits() && hint.hidden && video.getVideoPlaybackQuality().totalVideoFrames > from + 3) return;
      }
    };
    window.look = async () => {
      const from = { frames: video.getVideoPlaybackQuality().totalVideoFrames, time: video.currentTime };
      await pause(3);
      const frames = video.getVideoPlaybackQuality().totalVideoFrames - from.frames;
      return { frames, advanced: video.currentTime - from.time, state: window.tidegate.state, hidden: hint.hidden };
    };
    (async () => {
      await moves();
      window.emit("playing", {});
      for (;;) {
        while (!waits()) await pause(0.05);
        window.emit("paused", {});
        await moves();
        window.emit("resumed", {});
      }
    })();
  });
  await new Promise((stopped) => {
    onCommand(async (line) => {
      if (line === "look") emit("looked", { ...(await page.evaluate(() => window.look())), loads });
      if (line === "stop") stopped();
    });
  });
});
