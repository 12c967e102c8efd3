// Sources of a publisher: the browser's fake devices, or a flash and a beep that are exactly together.

/** Camera and microphone (Chromium's fakes: a moving clock and a beep). */
export function camera({ audio = true, video = true }) {
  return navigator.mediaDevices.getUserMedia({
    audio: audio && { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
    video: video && { width: 640, height: 360, frameRate: 30 },
  });
}

const RATE = 48000;
const CHUNK = 480;

/**
 * A moving picture, and at each whole second of its own clock a white frame for 100 ms together with a
 * 1 kHz beep of 100 ms. One timer writes both tracks, each sample and each frame at the moment it is due,
 * so the two leave together to within one audio chunk (10 ms).
 * `noise` of the picture's height, 0 to 1, is noise that encoders spend all their bits on.
 * `varies`: pictures are left out, one to four in a row, so that the frame rate varies.
 * `beepDelay` in seconds moves the beep: a known offset, to check a meter with.
 */
export function flashAndBeep({ audio = true, video = true, beepDelay = 0, fps = 30, width = 640, height = 360, noise = 0, varies = false }) {
  const stream = new MediaStream();
  const audioTrack = audio && new MediaStreamTrackGenerator({ kind: "audio" });
  const videoTrack = video && new MediaStreamTrackGenerator({ kind: "video" });
  if (audioTrack) stream.addTrack(audioTrack);
  if (videoTrack) stream.addTrack(videoTrack);
  const sound = audioTrack && audioTrack.writable.getWriter();
  const picture = videoTrack && videoTrack.writable.getWriter();
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  const grain = noise > 0 && grains(width, height);

  const origin = performance.now();
  let chunks = 0;
  let frames = 0;
  const timer = setInterval(() => {
    const elapsed = (performance.now() - origin) / 1000;
    while (sound && (chunks * CHUNK) / RATE <= elapsed) {
      sound.write(beep(chunks * CHUNK, beepDelay, origin)).catch(() => clearInterval(timer));
      chunks += 1;
    }
    while (picture && frames / fps <= elapsed) {
      draw(context, frames, fps, width, height);
      if (grain) grainy(context, grain, width, height, noise);
      const timestamp = Math.round(origin * 1000 + (frames * 1e6) / fps);
      picture.write(new VideoFrame(canvas, { timestamp })).catch(() => clearInterval(timer));
      frames += varies ? 1 + (Math.floor(frames / 10) % 5) : 1;
    }
  }, 4);
  return stream;
}

/** One chunk of 10 ms that starts at sample `first`. */
function beep(first, delay, origin) {
  const data = new Float32Array(CHUNK);
  for (let i = 0; i < CHUNK; i += 1) {
    const phase = ((first + i) / RATE - delay + 1) % 1;
    data[i] = phase < 0.1 ? 0.5 * Math.sin(2 * Math.PI * 1000 * phase) : 0;
  }
  return new AudioData({
    format: "f32-planar",
    sampleRate: RATE,
    numberOfFrames: CHUNK,
    numberOfChannels: 1,
    timestamp: Math.round(origin * 1000 + (first * 1e6) / RATE),
    data,
  });
}

/** A picture of noise, twice as wide and high as needed, to take pieces of. */
function grains(width, height) {
  const canvas = new OffscreenCanvas(2 * width, 2 * height);
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  for (let i = 0; i < image.data.length; i += 1) image.data[i] = i % 4 === 3 ? 255 : 64 + Math.random() * 64;
  context.putImageData(image, 0, 0);
  return canvas;
}

function grainy(context, grain, width, height, share) {
  const high = Math.round(height * share);
  const [x, y] = [Math.random() * width, Math.random() * height];
  context.drawImage(grain, x, y, width, high, 0, height - high, width, high);
}

function draw(context, frame, fps, width, height) {
  const flash = frame % fps < Math.round(fps / 10);
  context.fillStyle = flash ? "white" : "#204060";
  context.fillRect(0, 0, width, height);
  if (flash) return;
  for (let bar = 0; bar < 8; bar += 1) {
    context.fillStyle = `hsl(${bar * 45} 60% 30%)`;
    context.fillRect((bar * width) / 8 + ((frame * 4) % width), 40, width / 16, height - 80);
    context.fillRect((bar * width) / 8 + ((frame * 4) % width) - width, 40, width / 16, height - 80);
  }
}
