// The publish page: a source, a Publisher, the form, and what they say.

import { activateCopyButtons, element, formatBitrate, formatDuration, setText, streamName } from './page.js';
import { Publisher } from './publisher.js';
import { SendingMeter } from './sending.js';
import { listDevices, openSource } from './sources.js';

const STATES = { idle: 'Not live', connecting: 'Connecting', live: 'Live', reconnecting: 'Reconnecting', failed: 'Failed' };
const HINTS = {
  camera: 'Camera and microphone. The browser asks for permission.',
  screen: 'A tab, a window or the whole screen, with its sound where the browser can.',
  generated: 'A clock with moving waves; once a second a flash and a beep. For trying things out.',
};
const LIMITS = { none: 'nothing', cpu: 'this computer', bandwidth: 'the network', other: 'something else' };
const KEY = 'tidegate.publish-key';
const INPUTS = ['camera', 'microphone', 'resolution', 'frame-rate'];

const stream = streamName();
const form = element('form');
const preview = element('preview');
const publisher = new Publisher();
const meter = new SendingMeter();
let source = null;
let statistics = null;
let opening = 0;

/** For the console and for tests. */
window.tidegate = {
  get state() { return publisher.state; },
  get problem() { return publisher.problem; },
  get pc() { return publisher.pc; },
  get sessionUrl() { return publisher.sessionUrl; },
  get statistics() { return statistics; },
  get media() { return source?.media ?? null; },
  video: preview,
  start: goLive,
  stop,
};

document.title = `Publish ${stream} · Tidegate`;
setText(element('title'), stream);
setText(element('watch-url'), `${location.origin}/${stream}`);
element('watch').href = `/${stream}`;
activateCopyButtons();
takeKey();
takeSource();

publisher.addEventListener('change', show);
form.addEventListener('submit', (event) => {
  event.preventDefault();
  if (isRunning()) stop();
  else goLive();
});
form.addEventListener('change', ({ target }) => {
  if (target.name === 'source') sourceChosen();
  else if (INPUTS.includes(target.id) && source) openPreview();
  else if (target.id === 'video-bitrate') publisher.setBitrate(Number(target.value));
});
element('key').addEventListener('input', ({ target }) => sessionStorage.setItem(KEY, target.value));
window.addEventListener('pagehide', () => {
  publisher.stop();
  source?.close();
});
window.addEventListener('pageshow', ({ persisted }) => persisted && location.reload());
setInterval(measure, 1000);
show();

/** From `#key=…`, which servers and logs never see, else from this tab's memory. */
function takeKey() {
  const given = new URLSearchParams(location.hash.slice(1)).get('key');
  if (given) {
    sessionStorage.setItem(KEY, given);
    history.replaceState(null, '', location.pathname + location.search);
  }
  element('key').value = sessionStorage.getItem(KEY) ?? '';
}

/** `?source=generated` chooses for the reader; else camera, where the browser gives one to this page. */
function takeSource() {
  const asked = new URLSearchParams(location.search).get('source');
  const chosen = asked in HINTS ? asked : navigator.mediaDevices ? 'camera' : 'generated';
  form.elements.source.value = chosen;
  if (!navigator.mediaDevices) {
    for (const input of form.elements.source) input.disabled = input.value !== 'generated';
    form.elements.source.value = 'generated';
    setText(element('source-hint'), 'Browsers give camera and screen to secure pages only: https, or localhost.');
    element('devices').hidden = true;
  } else {
    showHint();
  }
}

function sourceChosen() {
  showHint();
  openPreview();
}

function showHint() {
  const kind = form.elements.source.value;
  setText(element('source-hint'), HINTS[kind]);
  element('devices').hidden = kind !== 'camera';
}

function settings() {
  const [width, height] = element('resolution').value.split('x').map(Number);
  return {
    title: stream,
    width,
    height,
    frameRate: Number(element('frame-rate').value),
    camera: element('camera').value,
    microphone: element('microphone').value,
  };
}

/** Shows what would be sent. True when there is something. */
async function openPreview() {
  const turn = (opening += 1);
  closeSource();
  notify('');
  try {
    const opened = await openSource(form.elements.source.value, settings());
    if (turn !== opening) {
      opened.close();
      return false;
    }
    source = opened;
  } catch (error) {
    if (turn === opening) notify(error.message);
    return false;
  }
  preview.srcObject = source.media;
  preview.play().catch(() => {});
  const [video] = source.media.getVideoTracks();
  // The browser's own "stop sharing", or a camera that was pulled out.
  video?.addEventListener('ended', async () => {
    await stop();
    closeSource();
    notify('The picture ended: sharing was stopped, or the camera is gone.');
  });
  show();
  listDevices().then(showDevices);
  return true;
}

function closeSource() {
  source?.close();
  source = null;
  preview.srcObject = null;
  show();
}

function showDevices({ cameras, microphones }) {
  fill(element('camera'), cameras, 1);
  fill(element('microphone'), microphones, 2);
}

/** Puts the devices behind the `fixed` options that are always there; keeps the choice. */
function fill(select, devices, fixed) {
  const chosen = select.value;
  select.length = fixed;
  for (const { deviceId, label } of devices) {
    if (deviceId !== 'default') select.add(new Option(label, deviceId));
  }
  select.value = chosen;
  if (select.selectedIndex < 0) select.selectedIndex = 0;
}

/** Opens the source when that hasn't happened yet, and publishes. */
async function goLive() {
  if (isRunning()) return;
  if (!source && !(await openPreview())) return;
  await source.resume();
  const bitrate = Number(element('video-bitrate').value);
  const key = element('key').value.trim();
  // Resolves when the session has ended; the page follows by events.
  publisher.start({ endpoint: `/${stream}/whip`, key, media: source.media, bitrate });
}

function stop() {
  return publisher.stop();
}

function isRunning() {
  return ['connecting', 'live', 'reconnecting'].includes(publisher.state);
}

function show() {
  const { state, problem, status } = publisher;
  const running = isRunning();
  element('state').dataset.state = state;
  setText(element('state'), STATES[state]);
  setText(element('go'), running ? 'Stop' : 'Go live');
  element('go').classList.toggle('stop', running);
  element('go').classList.toggle('primary', !running);
  // What is being sent stays as it is while it is sent.
  const insecure = !navigator.mediaDevices;
  for (const input of form.elements.source) input.disabled = running || (insecure && input.value !== 'generated');
  for (const id of INPUTS) element(id).disabled = running;
  element('key').disabled = running;
  element('message').hidden = source !== null;
  const keyRefused = status === 401 || status === 403;
  element('key').setAttribute('aria-invalid', String(keyRefused));
  if (problem) notify(keyRefused ? `The publish key is missing or wrong. ${problem}` : problem);
  else if (state !== 'idle') notify('');
}

function notify(text) {
  setText(element('notice'), text);
  element('notice').hidden = !text;
}

async function measure() {
  const pc = publisher.state === 'live' ? publisher.pc : null;
  statistics = pc ? await meter.sample(pc).catch(() => null) : null;
  const s = statistics ?? {};
  setText(element('bitrate'), formatBitrate(s.bitrate ?? NaN));
  setText(element('fps'), Number.isFinite(s.framesPerSecond) ? String(Math.round(s.framesPerSecond)) : '–');
  setText(element('size'), s.width ? `${s.width} × ${s.height}` : '–');
  setText(element('codec'), s.codec ?? '–');
  setText(element('rtt'), Number.isFinite(s.roundTripMs) ? `${Math.round(s.roundTripMs)} ms` : '–');
  setText(element('loss'), Number.isFinite(s.lost) ? `${s.lost} (${(s.lostShare * 100).toFixed(1)} %)` : '–');
  setText(element('limit'), LIMITS[s.limit] ?? '–');
  setText(element('duration'), publisher.since ? formatDuration(Date.now() - publisher.since) : '–');
}
