// Brings hls.js back to the latency that the playlist asks for, by playing a little faster than life.
//
// hls.js has a controller of its own, which acts only while more than a second is buffered ahead. With parts of a
// quarter of a second there never is: a player would stay for good as late as it began.

/** What hls.js has to be configured with to be steered. */
export const STEERED = {
  lowLatencyMode: true,
  // Off: there is one steersman.
  maxLiveSyncPlaybackRate: 1,
  // One stall at the start is no reason to stay a whole second further behind for good.
  liveSyncOnStallIncrease: 0.25,
};

/** How fast to catch up. */
const RATE = 1.05;
/** Seconds behind the wanted latency at which catching up begins and ends. */
const BEGIN = 0.08;
const END = 0.02;

/** Steers `video`, which `hls`, configured with {@link STEERED}, plays, until `signal` is aborted. */
export function steer(hls, video, signal) {
  video.addEventListener('timeupdate', () => (video.playbackRate = rate(hls, video)), { signal });
}

function rate(hls, video) {
  const details = hls.latestLevelDetails;
  if (!details?.live || hls.targetLatency === null || video.paused) return 1;
  const behind = hls.latency - hls.targetLatency;
  // Who is further behind than a segment has gone there on purpose.
  if (behind > details.targetduration) return 1;
  const { buffered, currentTime } = video;
  const ahead = buffered.length > 0 ? buffered.end(buffered.length - 1) - currentTime : 0;
  // The next part comes within its target; what is played faster meanwhile has to be there.
  const enough = ahead > (details.partTarget || details.targetduration) * 1.2;
  const catching = video.playbackRate > 1 ? behind > END : behind > BEGIN;
  return catching && enough ? RATE : 1;
}
