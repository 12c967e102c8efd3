// What a publisher's peer connection sends, measured over the time between two samples.

export class SendingMeter {
  #before = null;

  /** `{ bitrate, framesPerSecond, width, height, codec, roundTripMs, lost, lostShare, limit }`; null where unknown. */
  async sample(pc) {
    const report = await pc.getStats();
    const entries = [...report.values()];
    const outbound = entries.filter(({ type }) => type === 'outbound-rtp');
    const remote = entries.filter(({ type }) => type === 'remote-inbound-rtp');
    const pair = entries.find(({ type, nominated, state }) => type === 'candidate-pair' && nominated && state === 'succeeded');
    const video = outbound.find(({ kind }) => kind === 'video');
    const now = {
      pc,
      at: Math.max(0, ...outbound.map(({ timestamp }) => timestamp)),
      bytes: outbound.reduce((sum, { bytesSent = 0 }) => sum + bytesSent, 0),
    };
    const before = this.#before?.pc === pc ? this.#before : null;
    this.#before = now;
    const roundTrip = pair?.currentRoundTripTime ?? remote.find(({ kind }) => kind === 'video')?.roundTripTime;
    return {
      bitrate: before && now.at > before.at ? ((now.bytes - before.bytes) * 8000) / (now.at - before.at) : null,
      framesPerSecond: video?.framesPerSecond ?? null,
      width: video?.frameWidth ?? null,
      height: video?.frameHeight ?? null,
      codec: report.get(video?.codecId)?.mimeType.replace('video/', '') ?? null,
      roundTripMs: roundTrip === undefined ? null : roundTrip * 1000,
      lost: remote.length ? Math.max(0, remote.reduce((sum, { packetsLost = 0 }) => sum + packetsLost, 0)) : null,
      lostShare: remote.length ? Math.max(...remote.map(({ fractionLost = 0 }) => fractionLost)) : null,
      limit: video?.qualityLimitationReason ?? null,
    };
  }
}
