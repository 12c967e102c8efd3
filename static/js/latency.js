// How far behind life a player is, and what arrives. Measured once a second by whoever calls `sample`.

/** Looks at one {@link Player}. */
export class LatencyMeter {
  #player;
  #video;
  #pc = null;
  #before = null;

  constructor(player, video) {
    this.#player = player;
    this.#video = video;
  }

  /**
   * `{ latencyMs, bitrate, width, height }`; what isn't known is null.
   *
   * HLS: from the live edge that the playlist's date-times tell. WHEP: time spent in this browser from a packet's
   * arrival to the decoded frame, plus half the round trip; what happened before the server is not in it.
   */
  async sample() {
    const { videoWidth: width, videoHeight: height } = this.#video;
    const size = { width: width || null, height: height || null };
    const unknown = { latencyMs: null, bitrate: null, ...size };
    if (this.#player.state !== 'playing') return unknown;
    if (this.#player.transport === 'hls') {
      const seconds = this.#player.hlsLatency;
      return { ...unknown, latencyMs: seconds === null ? null : Math.round(seconds * 1000) };
    }
    const pc = this.#player.pc;
    if (!pc || pc.connectionState === 'closed') return unknown;
    return { ...unknown, ...(await this.#sampleWhep(pc)) };
  }

  async #sampleWhep(pc) {
    const now = receiverStatistics(await pc.getStats());
    const before = this.#pc === pc ? this.#before : null;
    this.#pc = pc;
    this.#before = now;
    if (!before || now.at <= before.at) return {};
    const items = now.items - before.items;
    const buffered = items > 0 ? ((now.delay - before.delay) / items) * 1000 : null;
    return {
      latencyMs: buffered === null ? null : Math.round(buffered + now.roundTrip * 500),
      bitrate: ((now.bytes - before.bytes) * 8000) / (now.at - before.at),
    };
  }
}

function receiverStatistics(report) {
  const sum = { at: 0, bytes: 0, items: 0, delay: 0, roundTrip: 0 };
  const inbound = [];
  for (const entry of report.values()) {
    if (entry.type === 'inbound-rtp') inbound.push(entry);
    if (entry.type === 'candidate-pair' && entry.nominated && entry.state === 'succeeded') {
      sum.roundTrip = entry.currentRoundTripTime ?? sum.roundTrip;
    }
  }
  for (const entry of inbound) {
    sum.at = Math.max(sum.at, entry.timestamp);
    sum.bytes += entry.bytesReceived ?? 0;
  }
  const video = inbound.find(({ kind, framesDecoded }) => kind === 'video' && framesDecoded > 0);
  const audio = inbound.find(({ kind }) => kind === 'audio');
  if (video?.totalProcessingDelay !== undefined) {
    // From the first packet's arrival to the decoded frame: the jitter buffer is in it.
    sum.items = video.framesDecoded;
    sum.delay = video.totalProcessingDelay;
  } else {
    sum.items = (video ?? audio)?.jitterBufferEmittedCount ?? 0;
    sum.delay = (video ?? audio)?.jitterBufferDelay ?? 0;
  }
  return sum;
}
