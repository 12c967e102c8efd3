// What a publisher's and a viewer's peer connection have in common: one signalling session, and one honest answer to
// "is it still there?".

import { SignallingSession } from './signalling.js';

/** Seconds that ICE may be disconnected before we stop hoping. */
const DISCONNECTED_SECONDS = 5;
/** Seconds that a server has to answer the DELETE before the connection is closed without it. */
const DELETE_SECONDS = 2;

/**
 * A peer connection with its session. Events: `connected`; `ended` with `detail.byServer` (the far side closed it, or
 * the network did). After `ended` or `close()` it is of no further use.
 */
export class Peer extends EventTarget {
  #session;
  #timer = 0;
  #over = false;

  constructor(key) {
    super();
    this.pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
    this.#session = new SignallingSession(key);
    this.pc.onicecandidate = ({ candidate }) => this.#session.trickle(candidate);
    this.pc.onconnectionstatechange = () => this.#connectionChanged();
  }

  /** The session's address, for curious people. */
  get sessionUrl() {
    return this.#session.url;
  }

  /**
   * Offers what was added to `pc`. `adapt` may change the offer's and the answer's SDP before they are applied.
   * Throws a Problem, or an `AbortError` when `signal` says so.
   */
  async negotiate(endpoint, { signal, adaptOffer = same, adaptAnswer = same } = {}) {
    const offer = await this.pc.createOffer();
    await this.pc.setLocalDescription({ type: 'offer', sdp: adaptOffer(offer.sdp) });
    // Sent at once: candidates gathered later are trickled, and the answer holds all of the server's.
    const answer = await this.#session.open(endpoint, this.pc.localDescription.sdp, signal);
    if (this.#over) {
      await this.#session.close();
      throw new DOMException('closed while it was opened', 'AbortError');
    }
    await this.pc.setRemoteDescription({ type: 'answer', sdp: adaptAnswer(answer) });
    const transport = this.pc.getTransceivers().find((transceiver) => transceiver.sender.transport)?.sender.transport;
    transport?.addEventListener('statechange', () => {
      if (transport.state === 'closed') this.#end(true);
    });
  }

  /**
   * Ends the session (DELETE) and the connection. No event follows. Resolves when the server has answered, or has had
   * its time to: the connection is closed after that, for closing it first would end the session before the DELETE.
   */
  async close() {
    this.#over = true;
    clearTimeout(this.#timer);
    for (const { sender, receiver } of this.pc.getTransceivers()) {
      sender.replaceTrack(null).catch(() => {});
      receiver.track.enabled = false;
    }
    const patience = new Promise((resolve) => setTimeout(resolve, DELETE_SECONDS * 1000));
    await Promise.race([this.#session.close(), patience]);
    this.pc.close();
  }

  #connectionChanged() {
    clearTimeout(this.#timer);
    switch (this.pc.connectionState) {
      case 'connected':
        this.dispatchEvent(new Event('connected'));
        break;
      case 'disconnected':
        this.#timer = setTimeout(() => this.#end(false), DISCONNECTED_SECONDS * 1000);
        break;
      case 'failed':
        this.#end(false);
        break;
      case 'closed':
        this.#end(true);
        break;
    }
  }

  #end(byServer) {
    if (this.#over) return;
    if (byServer) this.#session.forget();
    this.close();
    this.dispatchEvent(new CustomEvent('ended', { detail: { byServer } }));
  }
}

function same(sdp) {
  return sdp;
}
