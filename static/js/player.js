// Plays one stream in one video element: over WHEP, over Low-Latency HLS where WHEP does not get through, and again when
// the stream comes back. Draws nothing; the page listens to `change`.

import { Backoff } from './backoff.js';
import { HlsPlayback } from './llhls.js';
import { Problem } from './problem.js';
import { WhepClient } from './whep.js';

/** The longest a server may take to answer an offer (it waits for the stream's first media itself), in seconds. */
const ANSWER_SECONDS = 7;
/** Seconds that HLS may stand still before it counts as a pause of the publisher's. */
const PAUSE_SECONDS = 1;
/** The longest from the answer to the first picture, in seconds, before the other transport is tried. */
const PICTURE_SECONDS = 5;

/**
 * `state`: `connecting`, `playing`, `waiting` (the stream is not live; it is looked for again and again) or `failed`
 * (no transport works; likewise). `paused`: it plays, but nothing comes from the publisher now. `transport`: `whep` or `hls`, the one in use. `notice`: why it isn't the wanted one,
 * or why nothing plays. Event: `change`.
 */
export class Player extends EventTarget {
  state = 'connecting';
  transport = 'whep';
  notice = '';
  /** The publisher sends nothing, although the stream has not ended: it goes on here when the publisher does. */
  paused = false;
  /** The peer connection while WHEP is in use. */
  pc = null;
  #video;
  #stream;
  #wanted = 'whep';
  #hls = null;
  #backoff = new Backoff(1, 6);
  #interrupt = () => {};
  #closed = false;
  #running = false;

  constructor(video, stream) {
    super();
    this.#video = video;
    this.#stream = stream;
  }

  /** hls.js's object while it is in use. */
  get hls() {
    return this.#hls?.hls ?? null;
  }

  /** Seconds behind live as HLS counts it, or null. */
  get hlsLatency() {
    return this.#hls?.latency ?? null;
  }

  /** Starts with the wanted transport, and goes on until `close()`. */
  async start(transport) {
    this.#wanted = transport;
    if (this.#running) return;
    this.#running = true;
    this.transport = transport;
    while (!this.#closed) await this.#turn();
  }

  /** Changes to `whep` or `hls` now. */
  switchTo(transport) {
    this.#wanted = transport;
    this.#set({ transport, notice: '' });
    this.#backoff.reset();
    this.#interrupt();
    this.#backoff.wake();
  }

  /** Leaves the stream; the server is told. */
  close() {
    this.#closed = true;
    this.#interrupt();
    this.#backoff.wake();
  }

  /** One try, from connecting to whatever ends it, and what follows from that. */
  async #turn() {
    this.#set({ state: this.state === 'playing' ? 'connecting' : this.state, paused: false });
    const tried = this.transport;
    const end = await (tried === 'whep' ? this.#playWhep() : this.#playHls());
    if (this.#closed || end.interrupted || end.lost) {
      this.#set({ state: 'connecting', transport: this.#wanted });
    } else if (end.ended || (end.problem.isNotLive && !this.notice)) {
      this.#set({ state: 'waiting', transport: this.#wanted, notice: '' });
      await this.#backoff.wait(end.problem?.retryAfter ?? 0);
    } else if (tried === 'whep') {
      this.#set({ state: 'connecting', transport: 'hls', notice: `WebRTC did not work here: ${end.problem.message}` });
    } else {
      const both = `${this.notice} HLS did not work either: ${end.problem.message}`;
      this.#set({ state: 'failed', notice: this.#wanted === 'whep' ? both : end.problem.message });
      await this.#backoff.wait(end.problem.retryAfter ?? 0);
      this.#set({ transport: this.#wanted, notice: '' });
    }
  }

  async #playWhep() {
    const client = new WhepClient();
    const abort = new AbortController();
    this.pc = client.pc;
    let timer = setTimeout(() => abort.abort(), ANSWER_SECONDS * 1000);
    const end = await new Promise((resolve) => {
      this.#interrupt = () => resolve({ interrupted: true });
      client.addEventListener('ended', ({ detail }) => {
        resolve(detail.byServer ? { ended: true } : this.#lost('The connection was lost.'));
      });
      client.addEventListener('inactive', () => this.#set({ paused: true }));
      client.addEventListener('active', () => this.#set({ paused: false }));
      this.#whenPictured(abort.signal, () => clearTimeout(timer));
      client
        .play(`/${this.#stream}/whep`, abort.signal)
        .then(() => {
          clearTimeout(timer);
          // Not before its tracks are in it: an element that was given an empty stream never finds audio alone.
          this.#video.srcObject = client.media;
          this.#play();
          const late = new Problem(0, `No picture came within ${PICTURE_SECONDS} seconds.`, '', null);
          timer = setTimeout(() => resolve({ problem: late }), PICTURE_SECONDS * 1000);
        })
        .catch((error) => resolve({ problem: asProblem(error) }));
    });
    clearTimeout(timer);
    abort.abort();
    client.close();
    this.pc = null;
    this.#video.srcObject = null;
    return end;
  }

  async #playHls() {
    const playback = new HlsPlayback(this.#video);
    const abort = new AbortController();
    this.#hls = playback;
    const end = await new Promise((resolve) => {
      this.#interrupt = () => resolve({ interrupted: true });
      playback.addEventListener('ended', () => resolve({ ended: true }));
      playback.addEventListener('failed', ({ detail }) => resolve({ problem: detail.problem }));
      this.#whenPictured(abort.signal);
      this.#whenStanding(abort.signal);
      playback
        .play(`/${this.#stream}/index.m3u8`)
        .then(() => this.#play())
        .catch((error) => resolve({ problem: asProblem(error) }));
    });
    abort.abort();
    playback.close();
    this.#hls = null;
    return end;
  }

  /** Playing is when the element has something to show, or, of a stream without pictures, to sound. */
  #whenPictured(signal, then = () => {}) {
    const pictured = () => {
      if (signal.aborted || this.state === 'playing') return;
      this.#backoff.reset();
      then();
      this.#set({ state: 'playing' });
    };
    for (const event of ['loadeddata', 'playing']) this.#video.addEventListener(event, pictured, { signal });
  }

  /** HLS waits for media when there are none; shorter waits are the network's. */
  #whenStanding(signal) {
    let timer = 0;
    const stand = () => {
      clearTimeout(timer);
      timer = setTimeout(() => !signal.aborted && this.#set({ paused: true }), PAUSE_SECONDS * 1000);
    };
    const go = () => {
      clearTimeout(timer);
      if (this.paused) this.#set({ paused: false });
    };
    this.#video.addEventListener('waiting', stand, { signal });
    for (const event of ['playing', 'timeupdate']) this.#video.addEventListener(event, go, { signal });
  }

  /** A connection that played and was lost is tried again at once; one that never played was a failure. */
  #lost(why) {
    return this.state === 'playing' ? { lost: true } : { problem: new Problem(0, why, '', null) };
  }

  #play() {
    this.#video.play().catch((error) => {
      if (error.name === 'NotAllowedError') this.dispatchEvent(new Event('blocked'));
    });
  }

  #set(changes) {
    Object.assign(this, changes);
    this.dispatchEvent(new Event('change'));
  }
}

function asProblem(error) {
  if (error instanceof Problem) return error;
  if (error.name === 'AbortError') return new Problem(0, 'The server did not answer in time.', '', null);
  return new Problem(0, error.message, '', null);
}
