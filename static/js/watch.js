// The watch page: a Player, its controls, and what they say.

import { LatencyMeter } from './latency.js';
import { activateCopyButtons, element, formatBitrate, formatLatency, setText, streamName } from './page.js';
import { Player } from './player.js';

const NAMES = { whep: 'WebRTC', hls: 'HLS' };
const STATES = { connecting: 'Connecting', playing: 'Live', waiting: 'Not live', failed: 'Cannot play' };

const stream = streamName();
const video = element('video');
const player = new Player(video, stream);
const meter = new LatencyMeter(player, video);
let latencyMs = null;

/** For the console and for tests. */
window.tidegate = {
  get state() { return player.state; },
  get transport() { return player.transport; },
  get notice() { return player.notice; },
  get paused() { return player.paused; },
  get latencyMs() { return latencyMs; },
  get pc() { return player.pc; },
  get hls() { return player.hls; },
  video,
  switchTo,
};

document.title = `${stream} · Tidegate`;
setText(element('title'), stream);
setText(element('hls-url'), `${location.origin}/${stream}/index.m3u8`);
setText(element('whep-url'), `${location.origin}/${stream}/whep`);
activateCopyButtons();

player.addEventListener('change', show);
player.addEventListener('blocked', () => (element('play').hidden = false));
video.addEventListener('playing', () => (element('play').hidden = true));
video.addEventListener('volumechange', showSound);
video.addEventListener('resize', show);
for (const id of ['mute', 'unmute']) element(id).addEventListener('click', () => (video.muted = !video.muted));
for (const transport of ['whep', 'hls']) element(transport).addEventListener('click', () => switchTo(transport));
element('play').addEventListener('click', () => video.play());
element('fullscreen').addEventListener('click', toggleFullScreen);
element('screen').addEventListener('dblclick', toggleFullScreen);
window.addEventListener('pagehide', () => player.close());
window.addEventListener('pageshow', ({ persisted }) => persisted && location.reload());
setInterval(measure, 1000);
// A reload can bring an element back unmuted; sound needs a click before most browsers let it play.
video.muted = true;
showSound();
player.start(new URLSearchParams(location.search).get('transport') === 'hls' ? 'hls' : 'whep');

function switchTo(transport) {
  if (transport !== 'whep' && transport !== 'hls') throw new TypeError(`no such transport: ${transport}`);
  const address = new URL(location.href);
  address.searchParams.set('transport', transport);
  history.replaceState(null, '', address);
  player.switchTo(transport);
}

function show() {
  const { state, transport, notice } = player;
  const paused = state === 'playing' && player.paused;
  element('state').dataset.state = paused ? 'waiting' : state;
  setText(element('state'), paused ? 'Waiting' : STATES[state]);
  setText(element('transport'), NAMES[transport]);
  for (const id of ['whep', 'hls']) element(id).setAttribute('aria-pressed', String(id === transport));
  setText(element('latency-label'), transport === 'hls' ? 'Latency' : 'Latency, from server');
  const soundOnly = state === 'playing' && video.videoWidth === 0;
  element('message').hidden = state === 'playing' && !soundOnly && !paused;
  element('spinner').hidden = state === 'failed' || (soundOnly && !paused);
  const [title, text] = message(paused ? 'paused' : state, transport, notice);
  setText(element('message-title'), title);
  setText(element('message-text'), text);
  setText(element('notice'), notice);
  element('notice').hidden = !notice || state === 'failed';
  showSound();
}

function message(state, transport, notice) {
  switch (state) {
    case 'waiting':
      return [`${stream} is not live`, 'It starts here by itself as soon as it is.'];
    case 'paused':
      return ['Waiting for the publisher', 'It goes on here by itself.'];
    case 'failed':
      return ['This stream cannot be played here', `${notice} Trying again…`];
    case 'playing':
      return ['Sound only', 'This stream has no picture.'];
    default:
      return [`Connecting over ${NAMES[transport]}`, ''];
  }
}

function showSound() {
  element('mute').setAttribute('aria-pressed', String(video.muted));
  setText(element('mute'), video.muted ? 'Sound off' : 'Sound on');
  element('unmute').hidden = !video.muted || player.state !== 'playing';
}

async function toggleFullScreen() {
  if (document.fullscreenElement) await document.exitFullscreen();
  else if (element('screen').requestFullscreen) await element('screen').requestFullscreen();
  else video.webkitEnterFullscreen?.(); // iPhones let only the video element fill the screen.
}

async function measure() {
  const sample = await meter.sample().catch(() => ({}));
  latencyMs = sample.latencyMs ?? null;
  setText(element('latency'), formatLatency(latencyMs ?? NaN));
  setText(element('bitrate'), formatBitrate(sample.bitrate ?? NaN));
  setText(element('size'), sample.width ? `${sample.width} × ${sample.height}` : '–');
}
