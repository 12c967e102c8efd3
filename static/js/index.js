// The index: what is live, refreshed every few seconds, and how to start a stream of one's own.

import { activateCopyButtons, element, formatDuration, make, setText } from './page.js';
import { request } from './problem.js';

const REFRESH_SECONDS = 3;
const NAME = /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$/;
const RTMP_PORT = 1935;
const STATES = { stalled: 'Stalled', waiting: 'Waiting for the publisher' };

/** Cards by stream name; a card that stays is changed in place, so that focus and selection survive. */
const cards = new Map();

showAddresses('mystream', RTMP_PORT);
activateCopyButtons();
element('name').addEventListener('input', nameTyped);
document.addEventListener('visibilitychange', () => document.visibilityState === 'visible' && refresh());
setInterval(() => document.visibilityState === 'visible' && refresh(), REFRESH_SECONDS * 1000);
await refresh();

async function refresh() {
  try {
    const response = await request('/live', { headers: { Accept: 'application/json' } });
    show((await response.json()).items);
    element('trouble').hidden = true;
  } catch (error) {
    setText(element('trouble'), `${error.message} The list may be out of date.`);
    element('trouble').hidden = false;
  }
}

function show(items) {
  const live = new Map(items.map((item) => [item.name, item]));
  for (const [name, card] of cards) {
    if (live.has(name)) continue;
    card.root.remove();
    cards.delete(name);
  }
  for (const item of items) {
    if (!cards.has(item.name)) cards.set(item.name, makeCard(item.name));
    fillCard(cards.get(item.name), item);
  }
  element('empty').hidden = items.length > 0;
  setText(element('count'), items.length === 1 ? '1 stream' : `${items.length} streams`);
}

function makeCard(name) {
  const card = {
    tracks: make('p', { className: 'muted small' }),
    readers: make('p', { className: 'muted small' }),
    since: make('span', { className: 'pill' }),
  };
  card.root = make(
    'li',
    { className: 'card stream' },
    make(
      'div',
      { className: 'stack tight' },
      make('div', { className: 'spread' }, make('h3', { text: name }), card.since),
      card.tracks,
      card.readers,
    ),
    make(
      'div',
      { className: 'actions' },
      make('a', { text: 'Watch', className: 'button primary', href: `/${name}`, ariaLabel: `Watch ${name}` }),
      make('a', { text: 'HLS', className: 'button', href: `/${name}?transport=hls`, ariaLabel: `Watch ${name} over HLS` }),
    ),
  );
  element('streams').append(card.root);
  return card;
}

function fillCard(card, { state = 'live', since, tracks = [], readers }) {
  const described = tracks.map(({ codec, width, height }) => (width ? `${codec} ${width} × ${height}` : codec));
  setText(card.tracks, described.join(' · ') || 'Waiting for media');
  // Not every server tells strangers how many watch.
  const watching = readers ? (readers.whep ?? 0) + (readers.hls ?? 0) : null;
  setText(card.readers, watching === null ? '' : `${watching || 'Nobody is'} watching`);
  card.since.dataset.state = state;
  setText(card.since, STATES[state] ?? `Live ${formatDuration(Date.now() - Date.parse(since))}`);
}

function nameTyped({ target }) {
  const name = target.value.trim();
  const valid = NAME.test(name);
  target.setAttribute('aria-invalid', String(!valid));
  if (valid) showAddresses(name, RTMP_PORT);
}

function showAddresses(name, rtmpPort) {
  const rtmp = `rtmp://${location.hostname}:${rtmpPort}/live`;
  element('publish').href = `/${name}/publish`;
  setText(element('whip-server'), `${location.origin}/${name}/whip`);
  setText(element('rtmp-server'), rtmp);
  setText(element('rtmp-key'), `${name}?key=PUBLISHKEY`);
  setText(
    element('ffmpeg'),
    'ffmpeg -re -i input.mp4 -c:v libx264 -preset veryfast -tune zerolatency -g 60 -bf 0 -pix_fmt yuv420p ' +
      `-c:a aac -ar 48000 -f flv "${rtmp}/${name}?key=PUBLISHKEY"`,
  );
}
