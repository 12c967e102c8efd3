// A player of HLS that follows a live stream until its standard input ends: hls.js or shaka-player, in their
// low-latency modes.
//   node tests/browser/play_hls.mjs '{"url":"http://127.0.0.1:8080/show/index.m3u8","player":"shaka"}'
// Options: url; player ("hls.js"); browser ("chromium").
// Prints `playing` at the first advance of the clock. Each line on stdin is answered with `look`: what has happened
// since the last one. Prints `left` at the end.

import { emit, onCommand, options, withPage } from "./chrome.mjs";

await withPage(async (page) => {
  await page.evaluate(async ({ url, player = "hls.js" }) => {
    const video = document.getElementById("video");
    const errors = [];
    let latency;
    if (player === "shaka") {
      await new Promise((resolve, reject) => {
        const script = document.createElement("script");
        script.src = "/shaka.js";
        script.onload = resolve;
        script.onerror = () => reject(new Error("no shaka-player"));
        document.head.append(script);
      });
      // It makes negative offsets 1 ms larger, for an old Edge, takes that for an error at the next part, and has the
      // browser drop pictures up to the next keyframe: its issue 10589, mended after 5.2.12.
      const offset = Object.getOwnPropertyDescriptor(SourceBuffer.prototype, "timestampOffset");
      const set = function (seconds) { offset.set.call(this, seconds < 0 ? seconds - 0.001 : seconds); };
      Object.defineProperty(SourceBuffer.prototype, "timestampOffset", { ...offset, set });
      const shakaPlayer = new window.shaka.Player();
      await shakaPlayer.attach(video);
      // Looking for closed captions, shaka-player 5.2.12 takes a segment's URI also where there are as yet only parts,
      // and throws: getClosedCaptionProbeSegments_ picks it while the playlist holds about three segments.
      shakaPlayer.configure({ streaming: { lowLatencyMode: true }, manifest: { hls: { disableClosedCaptionsDetection: true } } });
      shakaPlayer.addEventListener("error", ({ detail }) =>
        errors.push({ details: `${detail.category}.${detail.code}`, fatal: detail.severity === 2, data: String(detail.data) }));
      latency = () => shakaPlayer.getStats().liveLatency;
      await shakaPlayer.load(url);
    } else {
      const { default: Hls } = await import("/hls.mjs");
      const hls = new Hls({ lowLatencyMode: true });
      hls.on(Hls.Events.ERROR, (_event, { details, fatal, error }) => errors.push({ details, fatal, why: error?.message }));
      latency = () => hls.latency;
      hls.loadSource(url);
      hls.attachMedia(video);
    }
    video.play().catch(() => {});
    const started = performance.now();
    while (video.currentTime === 0 || video.paused || video.readyState < 3) {
      if (performance.now() - started > 30000) throw new Error(`no playback after 30 s: ${JSON.stringify({ errors, ready: video.readyState, at: video.currentTime, code: video.error?.message })}`);
      await new Promise((done) => setTimeout(done, 20));
    }
    const median = (list) => [...list].sort((one, other) => one - other)[Math.floor(list.length / 2)] ?? null;
    let samples = [];
    let stalls = 0;
    let errorsSeen = errors.length;
    video.addEventListener("waiting", () => (stalls += 1));
    setInterval(() => samples.push({ wall: performance.now(), media: video.currentTime, latency: latency() }), 100);
    let framesBefore = video.getVideoPlaybackQuality().totalVideoFrames;
    window.look = () => {
      const seen = samples;
      const latencies = seen.map((sample) => sample.latency);
      // Those after the first 3 s; null where there are none.
      const later = latencies.slice(30).filter(Number.isFinite);
      samples = seen.slice(-1);
      const first = seen[0];
      const last = seen[seen.length - 1];
      const frames = video.getVideoPlaybackQuality().totalVideoFrames;
      let standing = 0;
      for (let index = 1; index < seen.length; index += 1) {
        if (seen[index].media === seen[index - 1].media) standing += (seen[index].wall - seen[index - 1].wall) / 1000;
      }
      const result = {
        seconds: (last.wall - first.wall) / 1000,
        advanced: last.media - first.media,
        standing, stalls,
        frames: frames - framesBefore,
        width: video.videoWidth,
        latency: { first: median(latencies.slice(0, 30)), last: median(latencies.slice(-30)), most: later.length > 0 ? Math.max(...later) : null },
        errors: errors.slice(errorsSeen),
        ended: video.ended, failure: video.error?.message ?? null,
      };
      stalls = 0;
      framesBefore = frames;
      errorsSeen = errors.length;
      return result;
    };
  }, options);
  emit("playing");
  await new Promise((stopped) => {
    onCommand(async (line) => {
      if (line === "stop") return stopped();
      emit("look", { look: await page.evaluate(() => window.look()) });
    });
  });
  emit("left");
});
