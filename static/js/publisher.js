// Keeps one WHIP session alive: opens it, opens another when the network loses it, ends it when asked. Knows no page.

import { Backoff } from './backoff.js';
import { WhipClient } from './whip.js';

/**
 * `state`: `idle`, `connecting`, `live`, `reconnecting` or `failed`. `problem`: the sentence for the last two, and for
 * `idle` when it was the server that ended it. Event: `change`.
 */
export class Publisher extends EventTarget {
  state = 'idle';
  problem = '';
  /** The status of the answer that made it fail, when there was one. */
  status = 0;
  since = null;
  #client = null;
  #backoff = new Backoff(1, 8);
  #wanted = 0;

  get pc() {
    return this.#client?.pc ?? null;
  }

  get sessionUrl() {
    return this.#client?.sessionUrl ?? null;
  }

  /** Publishes until `stop()`, or until the server says no. */
  async start({ endpoint, key, media, bitrate }) {
    const turn = (this.#wanted += 1);
    const wanted = () => turn === this.#wanted;
    this.#backoff.reset();
    this.#set({ state: 'connecting', problem: '', status: 0 });
    while (wanted()) {
      const client = new WhipClient({ key, bitrate });
      this.#client = client;
      const end = await this.#publish(client, endpoint, media);
      if (!wanted()) return;
      this.#client = null;
      // A first no is an answer. Later on, the stream's old session may hold the name until the server misses it.
      const hopeless = end.problem && (this.state === 'connecting' || [401, 403, 422].includes(end.problem.status));
      if (hopeless) return this.#set({ state: 'failed', problem: end.problem.message, status: end.problem.status ?? 0, since: null });
      if (end.byServer) return this.#set({ state: 'idle', problem: 'The server ended the session.', since: null });
      this.#set({ state: 'reconnecting', problem: end.problem?.message ?? 'The connection was lost.' });
      await this.#backoff.wait(end.problem?.retryAfter ?? 0);
    }
  }

  /** Ends the session. Resolves when the server has answered. */
  async stop() {
    this.#wanted += 1;
    this.#backoff.wake();
    const client = this.#client;
    this.#client = null;
    this.#set({ state: 'idle', problem: '', since: null });
    await client?.close();
  }

  /** Changes the most the video may take, in bit/s. */
  setBitrate(bitrate) {
    return this.#client?.setBitrate(bitrate);
  }

  #publish(client, endpoint, media) {
    return new Promise((resolve) => {
      client.addEventListener('connected', () => {
        this.#backoff.reset();
        this.#set({ state: 'live', problem: '', since: this.since ?? Date.now() });
      });
      client.addEventListener('ended', ({ detail }) => {
        if (this.state === 'live') resolve({ byServer: detail.byServer });
        else resolve({ problem: new Error('No connection came about. UDP to the server may be blocked.') });
      });
      client.publish(endpoint, media).catch((problem) => {
        client.close();
        resolve({ problem });
      });
    });
  }

  #set(changes) {
    Object.assign(this, changes);
    this.dispatchEvent(new Event('change'));
  }
}
