// Publishing over WHIP (RFC 9725).

import { Peer } from './peer.js';

/** Sends one video and one audio track. Events as {@link Peer}. */
export class WhipClient extends Peer {
  #bitrate;

  /** `bitrate` is the most the video may take, in bit/s. */
  constructor({ key = '', bitrate }) {
    super(key);
    this.#bitrate = bitrate;
  }

  /** Publishes the tracks of `media`. Throws a Problem when the server does not want them. */
  async publish(endpoint, media, signal) {
    for (const track of media.getTracks()) {
      // RFC 9725 §4.2: sendonly, one m-section a kind.
      const transceiver = this.pc.addTransceiver(track, { direction: 'sendonly', streams: [media] });
      if (track.kind === 'video') preferH264(transceiver);
    }
    await this.negotiate(endpoint, { signal, adaptAnswer: (sdp) => withStartBitrate(sdp, this.#bitrate) });
    await this.setBitrate(this.#bitrate);
  }

  /** Changes the most the video may take, in bit/s, while it runs. */
  async setBitrate(bitrate) {
    this.#bitrate = bitrate;
    const sender = this.pc.getSenders().find(({ track }) => track?.kind === 'video');
    if (!sender) return;
    const parameters = sender.getParameters();
    if (!parameters.encodings?.length) return;
    parameters.encodings[0].maxBitrate = bitrate;
    // A change of size in mid-stream costs every player a new start; a dropped frame costs nobody anything.
    parameters.degradationPreference = 'maintain-resolution';
    await sender.setParameters(parameters).catch(() => {});
  }
}

/** H.264 first: all players and restream targets take it without transcoding. The others stay as second choice. */
function preferH264(transceiver) {
  const codecs = RTCRtpReceiver.getCapabilities?.('video')?.codecs ?? [];
  const rank = ({ mimeType, sdpFmtpLine = '' }) => {
    if (mimeType.toLowerCase() !== 'video/h264') return 2;
    return sdpFmtpLine.includes('packetization-mode=1') ? 0 : 1;
  };
  if (!transceiver.setCodecPreferences || codecs.length === 0) return;
  transceiver.setCodecPreferences([...codecs].sort((a, b) => rank(a) - rank(b)));
}

/** Lets Chromium begin near the wanted bitrate instead of climbing from 300 kbit/s. Others pass over it. */
function withStartBitrate(sdp, bitrate) {
  const start = Math.round((bitrate * 0.6) / 1000);
  const video = sdp.indexOf('m=video');
  if (video < 0) return sdp;
  const end = sdp.indexOf('\r\nm=', video);
  const section = sdp.slice(video, end < 0 ? undefined : end);
  const adapted = section.replace(/^(a=fmtp:\d+ (?!apt=).*?)\r?$/gm, `$1;x-google-start-bitrate=${start}\r`);
  return sdp.slice(0, video) + adapted + (end < 0 ? '' : sdp.slice(end));
}
