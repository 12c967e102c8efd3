// Playing over Low-Latency HLS: by hls.js where there are Media Source Extensions, else by the browser itself (Safari).

import { Problem } from './problem.js';
import { STEERED, steer } from './steering.js';

const CONFIG = {
  ...STEERED,
  // fMP4 needs no transmuxing, so there is nothing for a worker to do (and no blob: script for the page's CSP).
  enableWorker: false,
  backBufferLength: 30,
  // While a publisher is away playlists are held, then refused: go on asking for longer than most are away.
  playlistLoadPolicy: {
    default: {
      maxTimeToFirstByteMs: 15000,
      maxLoadTimeMs: 20000,
      timeoutRetry: { maxNumRetry: 8, retryDelayMs: 0, maxRetryDelayMs: 0 },
      errorRetry: { maxNumRetry: 30, retryDelayMs: 1000, maxRetryDelayMs: 3000 },
    },
  },
};

/** Events: `ended` (the stream is over); `failed` with `detail.problem`. Ends with `close()`. */
export class HlsPlayback extends EventTarget {
  #video;
  #recovered = false;
  #over = false;
  #listeners = new AbortController();

  constructor(video) {
    super();
    this.#video = video;
    this.hls = null;
  }

  /** Begins to play. Problems come as events. */
  async play(url) {
    const { default: Hls } = await import('/assets/hls.js');
    if (this.#over) return;
    this.#video.addEventListener('ended', () => this.#end(), { signal: this.#listeners.signal });
    if (Hls.isSupported()) {
      this.#playWith(Hls, url);
    } else if (this.#video.canPlayType('application/vnd.apple.mpegurl')) {
      this.#playNatively(url);
    } else {
      this.#fail(new Problem(0, 'This browser plays no HLS.', '', null));
    }
  }

  /** Seconds behind the live edge, or null while it isn't known. */
  get latency() {
    if (this.hls) return this.hls.latency > 0 ? this.hls.latency : null;
    const start = this.#video.getStartDate?.().getTime();
    return start > 0 ? (Date.now() - start) / 1000 - this.#video.currentTime : null;
  }

  close() {
    this.#over = true;
    this.#listeners.abort();
    if (this.hls) {
      this.hls.destroy();
      this.hls = null;
    } else if (this.#video.src) {
      this.#video.removeAttribute('src');
      this.#video.load();
    }
  }

  #playWith(Hls, url) {
    const hls = new Hls(CONFIG);
    this.hls = hls;
    // A stream that has ended stays readable for a while; a live page has no use for it.
    hls.once(Hls.Events.LEVEL_LOADED, (_, { details }) => {
      if (!details.live) queueMicrotask(() => this.#end());
    });
    hls.on(Hls.Events.ERROR, (_, data) => {
      if (!data.fatal) return;
      if (data.type === Hls.ErrorTypes.MEDIA_ERROR && !this.#recovered) {
        this.#recovered = true;
        hls.recoverMediaError();
        return;
      }
      const status = data.response?.code ?? 0;
      const detail = status >= 400 ? `The server answered ${status} to a request for HLS.` : `hls.js reports ${data.details}.`;
      this.#fail(new Problem(status, 'HLS playback stopped.', detail, null));
    });
    hls.loadSource(url);
    hls.attachMedia(this.#video);
    steer(hls, this.#video, this.#listeners.signal);
  }

  #playNatively(url) {
    this.#video.src = url;
    this.#video.addEventListener(
      'error',
      async () => {
        // The element doesn't tell a stream that isn't live from a broken one; the server does.
        const status = await fetch(url).then(({ status }) => status, () => 0);
        this.#fail(new Problem(status, 'HLS playback stopped.', this.#video.error?.message ?? '', null));
      },
      { signal: this.#listeners.signal },
    );
  }

  #end() {
    if (this.#over) return;
    this.close();
    this.dispatchEvent(new Event('ended'));
  }

  #fail(problem) {
    if (this.#over) return;
    this.close();
    this.dispatchEvent(new CustomEvent('failed', { detail: { problem } }));
  }
}
