// Playing over WHEP (draft-ietf-wish-whep).

import { Peer } from './peer.js';

/**
 * Receives one video and one audio track into `media`. Events as {@link Peer}, and `active` and `inactive`, where the
 * server tells: whether the stream's publisher sends.
 */
export class WhepClient extends Peer {
  constructor({ key = '' } = {}) {
    super(key);
    this.media = new MediaStream();
    this.pc.ontrack = ({ track }) => this.media.addTrack(track);
  }

  /** Asks for the stream. Throws a Problem when it isn't live, or this browser lacks its codecs. */
  async play(endpoint, signal) {
    this.pc.addTransceiver('video', { direction: 'recvonly' });
    this.pc.addTransceiver('audio', { direction: 'recvonly' });
    await this.negotiate(endpoint, { signal, adaptOffer: withStereo });
    // Who can't be told sees the picture stand still.
    this.#listen().catch(() => {});
  }

  async #listen() {
    const events = await this.subscribe(['active', 'inactive']);
    for (const name of ['active', 'inactive']) events?.addEventListener(name, () => this.dispatchEvent(new Event(name)));
  }
}

/** RFC 7587 §7.1: without `stereo=1` the offer says that this player would rather have mono. */
function withStereo(sdp) {
  const payloadType = sdp.match(/^a=rtpmap:(\d+) opus\/48000\/2/im)?.[1];
  if (!payloadType) return sdp;
  return sdp.replace(new RegExp(`^(a=fmtp:${payloadType} .*?)(\\r?)$`, 'm'), '$1;stereo=1$2');
}
