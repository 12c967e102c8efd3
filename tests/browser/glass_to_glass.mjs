// Glass-to-glass latency of the demo stream in Chromium, from the clock burnt into its picture.
//   node tests/browser/glass_to_glass.mjs '{"whep":"http://127.0.0.1:8080/demo/whep","seconds":20}'
//   node tests/browser/glass_to_glass.mjs '{"hls":"http://127.0.0.1:8080/demo/index.m3u8","seconds":20}'
// Options: whep or hls; seconds (20); settle: seconds before the measurement (3); rate: how fast hls.js
// may play to come back to its latency (1, its default); steer: play as the watch page does.
// Prints `result` with median, p10 and p90 in milliseconds. Server and browser must share a clock.

import { emit, options, withPage } from "./chrome.mjs";

await withPage(async (page) => {
  const result = await page.evaluate(async (options) => {
    const { seconds = 20, settle = 3 } = options;
    const { readMark } = await import("/mark.js");
    const pause = (s) => new Promise((done) => setTimeout(done, s * 1000));
    const video = document.getElementById("video");
    const started = performance.now();
    if (options.whep) {
      const { connected, negotiate, viewer } = await import("/session.js");
      const { peer, stream } = viewer();
      video.srcObject = stream;
      await negotiate(peer, options.whep, options);
      await connected(peer);
    } else {
      const { default: Hls } = await import("/hls.mjs");
      const { STEERED, steer } = await import("/steering.js");
      const config = { lowLatencyMode: true, maxLiveSyncPlaybackRate: options.rate ?? 1 };
      const hls = new Hls(options.steer ? STEERED : config);
      hls.loadSource(options.hls);
      hls.attachMedia(video);
      if (options.steer) steer(hls, video, new AbortController().signal);
      window.hls = hls;
    }
    video.play().catch(() => {});
    while (video.videoWidth === 0) {
      if (performance.now() - started > 15000) throw new Error("no picture after 15 s");
      await pause(0.02);
    }
    await pause(settle);
    const context = new OffscreenCanvas(1024, 16).getContext("2d", { willReadFrequently: true });
    const latencies = [];
    let [unread, stalls] = [0, 0];
    video.addEventListener("waiting", () => (stalls += 1));
    const look = (_now, metadata) => {
      const mark = readMark(video, context);
      if (mark === null) unread += 1;
      else latencies.push(performance.timeOrigin + metadata.expectedDisplayTime - mark);
      video.requestVideoFrameCallback(look);
    };
    video.requestVideoFrameCallback(look);
    await pause(seconds);
    latencies.sort((a, b) => a - b);
    const at = (share) => Math.round(latencies[Math.floor(share * (latencies.length - 1))]);
    const told = window.hls && { latency: window.hls.latency, target: window.hls.targetLatency };
    return { frames: latencies.length, unread, stalls, median: at(0.5), p10: at(0.1), p90: at(0.9), ...told };
  }, options);
  emit("result", result);
});
