// A WHIP publisher in Chromium.
//   node tests/browser/publish.mjs '{"endpoint":"http://127.0.0.1:8080/show/whip","source":"flash"}'
// Options: endpoint; token; source "camera" or "flash"; audio, video (true); codec "H264", "VP8", "VP9" or
// "AV1" (H264); encodings: those of a simulcast track, as RTCRtpEncodingParameters; beepDelay; fps, width, height, noise, varies of "flash"; keepSize: never a smaller picture for want of bandwidth or time; relay: port of a relay before the server;
// turn: relay candidates only, from the ICE servers that the 201 names; browser "chromium" or "firefox".
// Prints `connected`, with the candidate it sends from, then a `transport` line for each change of its DTLS transport.
// Commands on stdin: `stats`, `delete` (ends the session by DELETE), `stop` or end of input (goes away).

import { emit, onCommand, options, withPage } from "./chrome.mjs";

await withPage(async (page) => {
  const details = await page.evaluate(async (options) => {
    const { camera, flashAndBeep } = await import("/source.js");
    const { connected, localCandidate, negotiate, publisher } = await import("/session.js");
    const stream = options.source === "camera" ? await camera(options) : flashAndBeep(options);
    const peer = publisher(stream, { codec: options.codec, relayOnly: options.turn, encodings: options.encodings });
    if (options.keepSize) {
      for (const sender of peer.getSenders().filter((one) => one.track.kind === "video")) {
        await sender.setParameters({ ...sender.getParameters(), degradationPreference: "maintain-resolution" });
      }
    }
    const started = performance.now();
    const session = await negotiate(peer, options.endpoint, options);
    const answered = performance.now();
    await connected(peer);
    const [sender] = peer.getSenders();
    sender.transport.addEventListener("statechange", () => window.emit("transport", { state: sender.transport.state }));
    Object.assign(window, { peer, session });
    const connectedMs = performance.now() - started;
    return { session, answeredMs: answered - started, connectedMs, local: await localCandidate(peer) };
  }, options);
  emit("connected", details);

  await new Promise((stop) => {
    onCommand(async (command) => {
      if (command === "stop") stop();
      if (command === "stats") emit("stats", await page.evaluate(async () => {
        const { stats } = await import("/session.js");
        return { outbound: await stats(window.peer, "outbound-rtp"), remote: await stats(window.peer, "remote-inbound-rtp"), source: await stats(window.peer, "media-source") };
      }));
      if (command === "delete") emit("deleted", await page.evaluate(async () => {
        const response = await fetch(window.session, { method: "DELETE" });
        window.peer.close();
        return { status: response.status };
      }));
    });
  });
  await page.evaluate(() => window.peer.close());
});
