// An LL-HLS viewer in Chromium: hls.js in its low-latency mode.
//   node tests/browser/view_hls.mjs '{"url":"http://127.0.0.1:8080/show/index.m3u8","seconds":6}'
// Options: url; seconds to look at (6); video (true): whether a picture is expected; offset: also measure
// how far beeps are heard from flashes; clock: also tell where playback stood at which time of day.
// Prints `playing` at the first advance of the clock, then `result`.

import { emit, options, withPage } from "./chrome.mjs";

await withPage(async (page) => {
  const result = await page.evaluate(async (options) => {
    const { seconds = 6, video: picture = true, offset = false } = options;
    const { default: Hls } = await import("/hls.mjs");
    const { Luminance, median, offsets, onsets, watchPicture, watchSound } = await import("/meter.js");
    const pause = (s) => new Promise((done) => setTimeout(done, s * 1000));
    const video = document.getElementById("video");
    const hls = new Hls({ lowLatencyMode: true });
    const errors = [];
    const partsAndSegments = { parts: 0, segments: 0 };
    hls.on(Hls.Events.ERROR, (_event, data) =>
      errors.push({ details: data.details, fatal: data.fatal, why: data.error?.message, url: data.frag?.url, status: data.response?.code }));
    hls.on(Hls.Events.FRAG_LOADED, (_event, data) => (partsAndSegments[data.part ? "parts" : "segments"] += 1));
    const started = performance.now();
    hls.loadSource(options.url);
    hls.attachMedia(video);
    video.play().catch(() => {});
    while (video.currentTime === 0 || video.paused || video.readyState < 3 || (picture && video.videoWidth === 0)) {
      if (performance.now() - started > 20000) throw new Error(`no playback after 20 s: ${JSON.stringify({ errors, ready: video.readyState, at: video.currentTime, code: video.error?.message })}`);
      await pause(0.02);
    }
    const firstMediaMs = performance.now() - started;
    window.emit("playing", { firstMediaMs });
    await pause(options.settle ?? 1.5);

    let stalls = 0;
    video.addEventListener("waiting", () => (stalls += 1));
    const errorsBefore = errors.length;
    const [track] = video.captureStream().getAudioTracks();
    const levels = track ? watchSound(track) : [];
    const frames = offset ? watchPicture(video) : [];
    const luminance = new Luminance();
    const fingerprints = new Set();
    const latencies = [];
    const clock = [];
    const qualityBefore = video.getVideoPlaybackQuality();
    const from = { wall: performance.now(), media: video.currentTime };
    while (performance.now() - from.wall < seconds * 1000) {
      if (picture) fingerprints.add(luminance.fingerprint(video));
      latencies.push(hls.latency);
      clock.push([Date.now(), video.currentTime]);
      await pause(0.1);
    }
    const quality = video.getVideoPlaybackQuality();
    const result = {
      firstMediaMs,
      seconds: (performance.now() - from.wall) / 1000,
      advanced: video.currentTime - from.media,
      width: video.videoWidth, height: video.videoHeight,
      frames: quality.totalVideoFrames - qualityBefore.totalVideoFrames,
      dropped: quality.droppedVideoFrames - qualityBefore.droppedVideoFrames,
      pictures: fingerprints.size,
      sound: { samples: levels.length, peak: levels.reduce((top, one) => Math.max(top, one.level), 0), energy: levels.reduce((sum, one) => sum + one.level ** 2, 0) / Math.max(1, levels.length) },
      stalls, latency: median(latencies), targetLatency: hls.targetLatency,
      errors: errors.slice(errorsBefore), startErrors: errors.slice(0, errorsBefore),
      loaded: partsAndSegments,
      codecs: hls.levels.map((level) => level.attrs.CODECS),
    };
    if (options.clock) result.clock = clock;
    if (offset) {
      const flashes = onsets(frames, (frame) => frame.luma, 40);
      const beeps = onsets(levels, (sample) => sample.level, 0.03);
      const found = offsets(flashes, beeps).map((pair) => pair.offset);
      result.offset = { flashes: flashes.length, beeps: beeps.length, medianMs: found.length ? median(found) : null, all: found };
    }
    if (options.untilEnded) {
      const limit = performance.now() + options.untilEnded * 1000;
      while (!video.ended && performance.now() < limit) await pause(0.05);
      result.ended = video.ended;
    }
    hls.destroy();
    return result;
  }, options);
  emit("result", result);
});
