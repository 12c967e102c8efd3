// A WHEP viewer in Chromium that chooses encodings of a simulcast stream.
//   node tests/browser/watch_layers.mjs '{"endpoint":"http://127.0.0.1:8080/show/whep"}'
// Options: endpoint; relay: port of a relay before the server.
// Prints `playing` at the first decoded picture. Commands on stdin: `stats` prints `stats`, what getStats says of
// the pictures and which feedback the answer agreed upon; a JSON object is POSTed to the session's layer
// resource and prints `chosen` with the status; `stop` or end of input: it goes away.

import { emit, onCommand, options, withPage } from "./chrome.mjs";

await withPage(async (page) => {
  const details = await page.evaluate(async (options) => {
    const { connected, negotiate, stats, viewer } = await import("/session.js");
    const { peer, stream } = viewer();
    const element = document.getElementById("video");
    element.srcObject = stream;
    const started = performance.now();
    const session = await negotiate(peer, options.endpoint, options);
    Object.assign(window, { peer, session });
    await connected(peer);
    element.play().catch(() => {});
    window.picture = async () => (await stats(peer, "inbound-rtp")).find((entry) => entry.kind === "video");
    while (!((await window.picture())?.framesDecoded > 0)) {
      if (performance.now() - started > 15000) throw new Error("no picture after 15 s");
      await new Promise((done) => setTimeout(done, 20));
    }
    return { session };
  }, options);
  emit("playing", details);

  await new Promise((stop) => {
    onCommand(async (command) => {
      if (command === "stop") return stop();
      try {
        if (command === "stats") emit("stats", await page.evaluate(async () => {
          const { frameWidth, frameHeight, framesDecoded, framesDropped, keyFramesDecoded, freezeCount, totalFreezesDuration, packetsLost, nackCount, pliCount, bytesReceived, jitterBufferDelay, jitterBufferEmittedCount } = await window.picture();
          const feedback = [...new Set(window.peer.remoteDescription.sdp.match(/^a=rtcp-fb:\d+ .*$/gm).map((line) => line.split(" ").slice(1).join(" ").trim()))];
          return { width: frameWidth, height: frameHeight, framesDecoded, framesDropped, keyFramesDecoded, freezeCount, totalFreezesDuration, packetsLost, nackCount, pliCount, bytesReceived, jitterBufferDelay, jitterBufferEmittedCount, feedback };
        }));
        else emit("chosen", await page.evaluate(async (body) => {
          const headers = { "content-type": "application/json" };
          const response = await fetch(`${window.session}/layer`, { method: "POST", headers, body });
          return { status: response.status, body: await response.text() };
        }, command));
      } catch (error) {
        emit("failed", { message: String(error.message ?? error) });
      }
    });
  });
  await page.evaluate(() => window.peer.close());
});
