// What a publisher's and a viewer's peer connection have in common: one signalling session, and one honest answer to
// "is it still there?".

import { SignallingSession } from './signalling.js';

/** Seconds that ICE may be disconnected before we stop hoping. */
const DISCONNECTED_SECONDS = 5;
/** Seconds that a server has to answer the DELETE before the connection is closed without it. */
const DELETE_SECONDS = 2;
/** Seconds that a connection may take before it is tried by way of the TURN servers, if there are any. */
const DIRECT_SECONDS = 2;

/**
 * A peer connection with its session. Events: `connected`; `ended` with `detail.byServer` (the far side closed it, or
 * the network did). After `ended` or `close()` it is of no further use.
 */
export class Peer extends EventTarget {
  #session;
  #timer = 0;
  #relayTimer = 0;
  #answer = '';
  #restarting = false;
  #adaptOffer = same;
  #events = null;
  #over = false;

  constructor(key) {
    super();
    this.pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
    this.#session = new SignallingSession(key);
    this.pc.onicecandidate = ({ candidate }) => this.#session.trickle(candidate);
    this.pc.onconnectionstatechange = () => this.#connectionChanged();
  }

  /** As {@link SignallingSession.subscribe}; ended with the connection. */
  async subscribe(names) {
    const events = await this.#session.subscribe(names);
    if (this.#over) events?.close();
    else this.#events = events;
    return this.#events;
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
    this.#adaptOffer = adaptOffer;
    const offer = await this.pc.createOffer();
    await this.pc.setLocalDescription({ type: 'offer', sdp: adaptOffer(offer.sdp) });
    // Sent at once: candidates gathered later are trickled, and the answer holds all of the server's.
    const answer = await this.#session.open(endpoint, this.pc.localDescription.sdp, signal);
    if (this.#over) {
      await this.#session.close();
      throw new DOMException('closed while it was opened', 'AbortError');
    }
    this.#answer = adaptAnswer(answer);
    await this.pc.setRemoteDescription({ type: 'answer', sdp: this.#answer });
    this.#useServers(this.#session.iceServers);
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
    this.#events?.close();
    this.#events = null;
    clearTimeout(this.#timer);
    clearTimeout(this.#relayTimer);
    for (const { sender, receiver } of this.pc.getTransceivers()) {
      sender.replaceTrack(null).catch(() => {});
      receiver.track.enabled = false;
    }
    const patience = new Promise((resolve) => setTimeout(resolve, DELETE_SECONDS * 1000));
    await Promise.race([this.#session.close(), patience]);
    this.pc.close();
  }

  /**
   * The servers are known only now, with candidates already gathered without them: they count from the next restart
   * on (JSEP §4.1.18), which is due when the direct way does not work.
   */
  #useServers(iceServers) {
    if (iceServers.length === 0) return;
    const configuration = this.pc.getConfiguration();
    this.pc.setConfiguration({ ...configuration, iceServers });
    const wait = configuration.iceTransportPolicy === 'relay' ? 0 : DIRECT_SECONDS;
    this.#relayTimer = setTimeout(() => {
      if (this.pc.connectionState !== 'connected') this.#restart();
    }, wait * 1000);
  }

  /** New ICE credentials and candidates for the same session. A restart that fails leaves everything as it was. */
  async #restart() {
    if (this.#over || this.#restarting || this.pc.signalingState !== 'stable') return;
    this.#restarting = true;
    try {
      const offer = await this.pc.createOffer({ iceRestart: true });
      await this.pc.setLocalDescription({ type: 'offer', sdp: this.#adaptOffer(offer.sdp) });
      const fragment = await this.#session.restart(this.pc.localDescription.sdp);
      this.#answer = withFragment(this.#answer, fragment);
      await this.pc.setRemoteDescription({ type: 'answer', sdp: this.#answer });
    } catch {
      if (this.pc.signalingState === 'have-local-offer') await this.pc.setLocalDescription({ type: 'rollback' }).catch(() => {});
    } finally {
      this.#restarting = false;
    }
  }

  #connectionChanged() {
    clearTimeout(this.#timer);
    switch (this.pc.connectionState) {
      case 'connected':
        this.dispatchEvent(new Event('connected'));
        break;
      case 'disconnected':
        // The network may have changed under us: another path is looked for while there is hope.
        this.#restart();
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

/** The answer with the ICE credentials and candidates of a server's fragment (RFC 8840). */
function withFragment(answer, fragment) {
  const line = (name) => fragment.match(new RegExp(`^a=${name}:.*$`, 'm'))?.[0].trim() ?? '';
  const candidates = fragment.match(/^a=(candidate:.*|end-of-candidates)$/gm)?.map((found) => found.trim()) ?? [];
  const kept = answer
    .split(/\r?\n/)
    .filter((text) => candidates.length === 0 || !/^a=(candidate:|end-of-candidates)/.test(text))
    .map((text) => text.replace(/^a=ice-ufrag:.*$/, line('ice-ufrag')).replace(/^a=ice-pwd:.*$/, line('ice-pwd')));
  if (candidates.length > 0) {
    // All media are bundled: the first section carries them.
    const end = kept.findIndex((text, index) => text.startsWith('m=') && kept.slice(0, index).some((other) => other.startsWith('m=')));
    kept.splice(end < 0 ? kept.length - 1 : end, 0, ...candidates);
  }
  return kept.join('\r\n');
}

function same(sdp) {
  return sdp;
}
