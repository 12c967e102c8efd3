// Checks the generator and the WebRTC meter against each other: one page publishes to itself with a known
// offset between flash and beep, and the meter must find it. No server takes part.
//   node tests/browser/check_meter.mjs '{"beepDelay":0.1,"seconds":8}'

import { emit, options, withPage } from "./chrome.mjs";

await withPage(async (page) => {
  const result = await page.evaluate(async ({ beepDelay = 0, seconds = 8, settle = 4 }) => {
    const { flashAndBeep } = await import("/source.js");
    const { publisher, viewer, connected } = await import("/session.js");
    const { watchPicture, watchSound, onsets, offsets, median } = await import("/meter.js");
    const sender = publisher(flashAndBeep({ beepDelay }));
    const { peer, stream } = viewer({ audio: false, video: false });
    sender.onicecandidate = (event) => peer.addIceCandidate(event.candidate);
    peer.onicecandidate = (event) => sender.addIceCandidate(event.candidate);
    await sender.setLocalDescription();
    await peer.setRemoteDescription(sender.localDescription);
    await peer.setLocalDescription();
    await sender.setRemoteDescription(peer.localDescription);
    await connected(peer);
    const video = document.getElementById("video");
    video.srcObject = stream;
    await video.play();
    const context = new AudioContext();
    await new Promise((done) => setTimeout(done, settle * 1000));
    const frames = watchPicture(video);
    const levels = watchSound(stream.getAudioTracks()[0]);
    await new Promise((done) => setTimeout(done, seconds * 1000));
    const flashes = onsets(frames, (f) => f.luma, 40);
    const beeps = onsets(levels, (l) => l.level, 0.05);
    const found = offsets(flashes, beeps).map((pair) => pair.offset);
    const playing = [];
    (await peer.getStats()).forEach((s) => s.type === "inbound-rtp" && playing.push([s.kind, s.estimatedPlayoutTimestamp]));
    return { frames: frames.length, flashes: flashes.length, beeps: beeps.length, median: median(found), found, outputLatency: context.outputLatency, baseLatency: context.baseLatency, playing };
  }, options);
  emit("result", result);
});
