// A WHEP viewer in Chromium.
//   node tests/browser/view_whep.mjs '{"endpoint":"http://127.0.0.1:8080/show/whep","seconds":5}'
// Options: endpoint; token; audio, video (true): what is expected and, without offerAudio, offerVideo,
// what is offered; codec: the only one offered for pictures; relay: port of a relay before the server;
// turn: relay candidates only, from the ICE servers that the 201 names; browser "chromium" or "firefox";
// seconds to look at (5); settle: seconds before that (1); offset: also measure how far beeps are heard from
// flashes; fromStart: look from the first frame on, and settle does not matter; progress: print `frames` with the number decoded so far every 50 ms; untilClosed: then wait this
// many seconds at most for the server to close the session.
// Prints `playing` at the first decoded media, `result` with what getStats counted within `seconds`,
// and `closed` (or `open`) where `untilClosed` was asked for.

import { emit, options, withPage } from "./chrome.mjs";

await withPage(async (page) => {
  const result = await page.evaluate(async (options) => {
    const { audio = true, video = true, seconds = 5, settle = 1, offset = false } = options;
    const { connected, localCandidate, negotiate, stats, viewer } = await import("/session.js");
    const { median, offsets, onsets, watchPicture, watchSound } = await import("/meter.js");
    const pause = (s) => new Promise((done) => setTimeout(done, s * 1000));
    const { peer, stream } = viewer({
      audio: options.offerAudio ?? audio, video: options.offerVideo ?? video,
      codec: options.codec, relayOnly: options.turn,
    });
    const element = document.getElementById("video");
    element.srcObject = stream;
    const started = performance.now();
    const session = await negotiate(peer, options.endpoint, options);
    Object.assign(window, { peer, session });
    const answeredMs = performance.now() - started;
    await connected(peer);
    const connectedMs = performance.now() - started;
    element.play().catch(() => {});

    const counts = async () => {
      const found = {};
      for (const entry of await stats(peer, "inbound-rtp")) found[entry.kind] = entry;
      for (const codec of await stats(peer, "codec")) {
        for (const entry of Object.values(found)) if (entry.codecId === codec.id) entry.codec = codec.mimeType;
      }
      return found;
    };
    const watch = () => [watchPicture(element), watchSound(stream.getAudioTracks()[0])];
    let [frames, levels] = offset && options.fromStart ? watch() : [[], []];
    let first;
    do {
      if (performance.now() - started > 15000) throw new Error(`no media after 15 s: ${JSON.stringify(await counts())}`);
      await pause(0.02);
      first = await counts();
    } while ((video && !(first.video?.framesDecoded > 0)) || (!video && !(first.audio?.totalSamplesReceived > 0)));
    const firstMediaMs = performance.now() - started;
    window.emit("playing", { firstMediaMs });
    if (options.progress) {
      setInterval(async () => window.emit("frames", { decoded: (await counts()).video?.framesDecoded ?? 0 }), 50);
    }

    if (!options.fromStart) {
      await pause(settle);
      if (offset) [frames, levels] = watch();
    }
    const before = await counts();
    const from = performance.now();
    await pause(seconds);
    const after = await counts();
    const elapsed = (performance.now() - from) / 1000;

    const grown = (kind, name) => (after[kind]?.[name] ?? 0) - (before[kind]?.[name] ?? 0);
    const result = {
      answeredMs, connectedMs, firstMediaMs, seconds: elapsed,
      video: after.video && {
        codec: after.video.codec, width: after.video.frameWidth, height: after.video.frameHeight,
        framesDecoded: grown("video", "framesDecoded"), framesDropped: grown("video", "framesDropped"),
        freezeCount: grown("video", "freezeCount"), packetsReceived: grown("video", "packetsReceived"),
        packetsLost: grown("video", "packetsLost"), keyFramesDecoded: after.video.keyFramesDecoded,
        pliCount: after.video.pliCount, nackCount: after.video.nackCount,
      },
      audio: after.audio && {
        codec: after.audio.codec, packetsReceived: grown("audio", "packetsReceived"),
        packetsLost: grown("audio", "packetsLost"),
        samples: grown("audio", "totalSamplesReceived"), concealed: grown("audio", "concealedSamples"),
        silentConcealed: grown("audio", "silentConcealedSamples"), energy: grown("audio", "totalAudioEnergy"),
      },
      local: await localCandidate(peer),
      cipher: (await stats(peer, "transport"))[0]?.srtpCipher,
    };
    if (offset) {
      const flashes = onsets(frames, (frame) => frame.luma, 40);
      const beeps = onsets(levels, (sample) => sample.level, 0.03);
      const pairs = offsets(flashes, beeps);
      const found = pairs.map((pair) => pair.offset);
      result.offset = {
        flashes: flashes.length, beeps: beeps.length, medianMs: found.length ? median(found) : null, all: found,
        // [seconds since the POST, offset in ms]
        timed: pairs.map((pair) => [Math.round(pair.at - started) / 1000, Math.round(pair.offset)]),
      };
    }
    return result;
  }, options);
  emit("result", result);

  if (options.untilClosed) {
    const state = await page.evaluate(async (limit) => {
      const { transport } = window.peer.getReceivers()[0];
      const started = performance.now();
      while (transport.state !== "closed" && performance.now() - started < limit * 1000) {
        await new Promise((done) => setTimeout(done, 20));
      }
      return { state: transport.state, connection: window.peer.connectionState };
    }, options.untilClosed);
    emit(state.state === "closed" ? "closed" : "open", state);
  }
  if (options.delete) {
    const status = await page.evaluate(async () => (await fetch(window.session, { method: "DELETE" })).status);
    emit("deleted", { status });
  }
});
