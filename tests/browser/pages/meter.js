// When flashes are seen and beeps are heard.

/** Mean luminance (0–255) of what `video` shows now. */
export class Luminance {
  #canvas = new OffscreenCanvas(32, 18);
  #context = this.#canvas.getContext("2d", { willReadFrequently: true });

  of(video) {
    this.#context.drawImage(video, 0, 0, 32, 18);
    const { data } = this.#context.getImageData(0, 0, 32, 18);
    let sum = 0;
    for (let i = 0; i < data.length; i += 4) sum += 0.299 * data[i] + 0.587 * data[i + 1] + 0.114 * data[i + 2];
    return sum / (data.length / 4);
  }

  /** A coarse sum of the picture that changes when anything moves. */
  fingerprint(video) {
    this.#context.drawImage(video, 0, 0, 32, 18);
    const { data } = this.#context.getImageData(0, 0, 32, 18);
    let hash = 0;
    for (let i = 0; i < data.length; i += 1) hash = (Math.imul(hash, 31) + (data[i] >> 3)) | 0;
    return hash;
  }
}

/** Collects `{ at, luma }` of each frame of `video`, `at` = the time (ms) it is expected on the screen. */
export function watchPicture(video) {
  const frames = [];
  const luminance = new Luminance();
  const look = (_now, metadata) => {
    frames.push({ at: metadata.expectedDisplayTime, luma: luminance.of(video), rtp: metadata.rtpTimestamp });
    video.requestVideoFrameCallback(look);
  };
  video.requestVideoFrameCallback(look);
  return frames;
}

/**
 * Collects `{ at, level }` of each millisecond of a live audio track, `at` = the time (ms) the sample left
 * the jitter buffer for the sound card. The samples leave at the card's pace, so their place is taken from
 * their number and the least delayed of the last second's deliveries, not from the moment a busy page reads them.
 */
export function watchSound(track) {
  const levels = [];
  const reader = new MediaStreamTrackProcessor({ track }).readable.getReader();
  const bases = [];
  let samples = 0;
  (async () => {
    for (;;) {
      const { value: data, done } = await reader.read();
      if (done) return;
      const now = performance.now();
      const rate = data.sampleRate;
      const buffer = new Float32Array(data.numberOfFrames);
      data.copyTo(buffer, { planeIndex: 0, format: "f32-planar" });
      data.close();
      bases.push(now - ((samples + buffer.length) * 1000) / rate);
      if (bases.length > 100) bases.shift();
      const base = Math.min(...bases);
      const step = Math.round(rate / 1000);
      for (let i = 0; i + step <= buffer.length; i += step) {
        let level = 0;
        for (let k = i; k < i + step; k += 1) level = Math.max(level, Math.abs(buffer[k]));
        levels.push({ at: base + ((samples + i) * 1000) / rate, level });
      }
      samples += buffer.length;
    }
  })();
  return levels;
}

/** Times at which `value(entry)` crosses half of its highest value upwards, after at least 300 ms below it. */
export function onsets(entries, value, floor) {
  const top = entries.reduce((most, entry) => Math.max(most, value(entry)), -Infinity);
  const rest = entries.map(value).sort((a, b) => a - b)[Math.floor(entries.length / 2)];
  if (!(top - rest > floor)) return [];
  const threshold = rest + (top - rest) / 2;
  const found = [];
  let low = -Infinity;
  let wasHigh = true;
  for (const entry of entries) {
    const high = value(entry) > threshold;
    if (high && !wasHigh && entry.at - low > 300) found.push(entry.at);
    if (high) low = entry.at;
    wasHigh = high;
  }
  return found;
}

/** `{ at, offset }` of each flash and its nearest beep in ms: the offset is positive when the sound is late. */
export function offsets(flashes, beeps) {
  const pairs = [];
  for (const flash of flashes) {
    const near = beeps.reduce((best, beep) => (Math.abs(beep - flash) < Math.abs(best - flash) ? beep : best), Infinity);
    if (Math.abs(near - flash) < 450) pairs.push({ at: flash, offset: near - flash });
  }
  return pairs;
}

/** The middle value. */
export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}
