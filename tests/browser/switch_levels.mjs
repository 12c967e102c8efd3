// An LL-HLS viewer in Chromium that changes between the levels of a stream: hls.js in its low-latency mode.
//   node tests/browser/switch_levels.mjs '{"url":"http://127.0.0.1:8080/show/index.m3u8"}'
// Options: url; level: the one to begin with (0); sound: none to be played but sound (false).
// Prints `playing` at the first advance of the clock, with what the levels are. Commands on stdin: a number is the
// level that is loaded from then on; `auto` leaves the choice to hls.js; `stats` prints `stats`; `stop` or the end
// of input: it goes away.

import { emit, onCommand, options, withPage } from "./chrome.mjs";

await withPage(async (page) => {
  const playing = await page.evaluate(async (options) => {
    const { default: Hls } = await import("/hls.mjs");
    const video = document.getElementById("video");
    const hls = new Hls({ lowLatencyMode: true, startLevel: options.level ?? 0 });
    const counts = { stalls: 0, frags: 0 };
    const errors = [];
    // hls.js 1.7.4 goes on behind a part that it has loaded of a level, also where another level has overwritten that
    // in the buffer: back on a level within one segment, it loads pictures that nothing can be decoded from before the
    // next keyframe (getNextPart, `contiguous`). So a level is left only in another segment than the last one was.
    const segment = { loading: 0, changed: 0 };
    hls.on(Hls.Events.FRAG_LOADING, (_event, { frag }) => {
      if (frag.type !== "main" || frag.sn === "initSegment") return;
      segment.loading = frag.sn;
      segment.changed ||= frag.sn;
    });
    hls.on(Hls.Events.ERROR, (_event, data) =>
      errors.push({ details: data.details, fatal: data.fatal, why: data.error?.message, url: data.frag?.url ?? data.url, level: data.frag?.level }));
    hls.on(Hls.Events.MANIFEST_PARSED, () => (hls.loadLevel = options.level ?? 0));
    hls.loadSource(options.url);
    hls.attachMedia(video);
    video.play().catch(() => {});
    const started = performance.now();
    while (video.currentTime === 0 || video.paused || video.readyState < 3 || (!options.sound && video.videoWidth === 0)) {
      if (performance.now() - started > 20000) throw new Error(`no playback after 20 s: ${JSON.stringify(errors)}`);
      await new Promise((done) => setTimeout(done, 20));
    }
    video.addEventListener("waiting", () => (counts.stalls += 1));
    window.stats = () => ({
      ...counts, errors, width: video.videoWidth, height: video.videoHeight, time: video.currentTime,
      level: hls.currentLevel, loading: hls.loadLevel, latency: hls.latency,
      frames: video.getVideoPlaybackQuality().totalVideoFrames,
      dropped: video.getVideoPlaybackQuality().droppedVideoFrames,
    });
    window.load = async (level) => {
      while (level >= 0 && segment.loading <= segment.changed) await new Promise((done) => hls.once(Hls.Events.FRAG_LOADING, done));
      segment.changed = segment.loading;
      hls.loadLevel = level;
    };
    return { levels: hls.levels.map(({ attrs }) => ({ ...attrs })), afterMs: performance.now() - started };
  }, options);
  emit("playing", playing);
  await new Promise((stop) => {
    onCommand(async (command) => {
      if (command === "stop") return stop();
      try {
        if (command === "stats") emit("stats", await page.evaluate(() => window.stats()));
        else await page.evaluate((level) => window.load(level), command === "auto" ? -1 : Number(command));
      } catch (error) {
        emit("failed", { message: String(error.message ?? error) });
      }
    });
  });
});
