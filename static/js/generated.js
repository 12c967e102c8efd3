// A picture and a sound made here: a clock in milliseconds, something that moves, and once a second, together, a white
// flash and a beep, so that an offset between sound and picture can be seen and heard.

const FLASH_SECONDS = 0.1;
const FONT = 'ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace';

export class GeneratedSource {
  #canvas = document.createElement('canvas');
  #context;
  #ticker = new Worker(new URL('./ticker.js', import.meta.url));
  #audio = new AudioContext({ sampleRate: 48000 });
  #loudness;
  #second = 0;
  #title;

  /** `title` is written into the picture. */
  constructor({ title, width, height, frameRate }) {
    this.#title = title;
    this.#canvas.width = width;
    this.#canvas.height = height;
    this.#context = this.#canvas.getContext('2d', { alpha: false });
    const destination = this.#audio.createMediaStreamDestination();
    this.#loudness = this.#hum(destination);
    this.media = new MediaStream([
      ...this.#canvas.captureStream(frameRate).getVideoTracks(),
      ...destination.stream.getAudioTracks(),
    ]);
    this.#draw();
    this.#ticker.onmessage = () => this.#draw();
    this.#ticker.postMessage(frameRate);
  }

  /** Browsers let sound start only after a click: to be called from one. Without one, the sound stays silent. */
  async resume() {
    await Promise.race([this.#audio.resume(), new Promise((resolve) => setTimeout(resolve, 500))]);
  }

  close() {
    this.#ticker.terminate();
    for (const track of this.media.getTracks()) track.stop();
    this.#audio.close();
  }

  /** A quiet chord that never stops (so that there always is sound), and a beep that is silent until asked for. */
  #hum(destination) {
    const oscillator = (frequency, volume) => {
      const gain = new GainNode(this.#audio, { gain: volume });
      const source = new OscillatorNode(this.#audio, { frequency });
      source.connect(gain).connect(destination);
      source.start();
      return gain.gain;
    };
    oscillator(220, 0.02);
    oscillator(277.2, 0.015);
    return oscillator(1000, 0);
  }

  #draw() {
    const now = Date.now();
    const second = Math.floor(now / 1000);
    if (second !== this.#second) {
      this.#second = second;
      this.#beep();
    }
    this.#paint(new Date(now), now % 1000 < FLASH_SECONDS * 1000);
  }

  #beep() {
    const now = this.#audio.currentTime;
    this.#loudness.setValueAtTime(0.35, now);
    this.#loudness.setValueAtTime(0, now + FLASH_SECONDS);
  }

  #paint(time, flash) {
    const { width, height } = this.#canvas;
    const c = this.#context;
    const phase = (time.getTime() % 8000) / 8000;
    c.fillStyle = flash ? '#ffffff' : '#0c2a36';
    c.fillRect(0, 0, width, height);

    for (let line = 0; line < 3; line += 1) {
      c.beginPath();
      c.lineWidth = height / 60;
      c.strokeStyle = ['#1d6f87', '#2f9db5', '#7fdcf2'][line];
      for (let x = 0; x <= width; x += width / 80) {
        const turn = (x / width) * 3 + phase * (line + 2) + line / 3;
        c.lineTo(x, height * (0.7 + 0.07 * line) + Math.sin(turn * 2 * Math.PI) * height * 0.05);
      }
      c.stroke();
    }

    c.fillStyle = flash ? '#0c2a36' : '#f3fbfd';
    c.textAlign = 'center';
    c.font = `600 ${Math.round(height / 6)}px ${FONT}`;
    c.fillText(clock(time), width / 2, height * 0.42);
    c.font = `500 ${Math.round(height / 16)}px ${FONT}`;
    c.fillText(this.#title, width / 2, height * 0.2, width * 0.9);
  }
}

function clock(time) {
  const two = (number) => String(number).padStart(2, '0');
  const milliseconds = String(time.getMilliseconds()).padStart(3, '0');
  return `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}.${milliseconds}`;
}
