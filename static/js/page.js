// What all pages share: the stream's name from the address, elements by id, copy buttons, numbers for people.

/** The stream that this page is about: the first part of its path. */
export function streamName() {
  return decodeURIComponent(location.pathname.split('/').find(Boolean) ?? '');
}

/** The element with this id, which the page's HTML holds. */
export function element(id) {
  return document.getElementById(id);
}

/** A new element with text; text is never read as HTML. */
export function make(tag, { text = '', className = '', ...properties } = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  if (className) made.className = className;
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}

/** Changes text only where it differs, so that screen readers speak of changes alone. */
export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

/** Gives each `[data-copy="id"]` button its work: the text of that element goes to the clipboard. */
export function activateCopyButtons(root = document) {
  for (const button of root.querySelectorAll('button[data-copy]')) {
    const label = button.textContent;
    button.addEventListener('click', async () => {
      const source = element(button.dataset.copy);
      const copied = await copy(source);
      button.textContent = copied ? 'Copied' : 'Selected';
      setTimeout(() => (button.textContent = label), 1500);
    });
  }
}

/** Pages without https have no clipboard; there the text is selected, ready for the keyboard. */
async function copy(source) {
  try {
    await navigator.clipboard.writeText(source.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(source);
    return false;
  }
}

/** `2.5 Mbit/s`, `640 kbit/s`, or a dash. */
export function formatBitrate(bitsPerSecond) {
  if (!Number.isFinite(bitsPerSecond)) return '–';
  if (bitsPerSecond >= 1e6) return `${(bitsPerSecond / 1e6).toFixed(1)} Mbit/s`;
  return `${Math.round(bitsPerSecond / 1e3)} kbit/s`;
}

/** `85 ms`, `1.3 s`, or a dash. */
export function formatLatency(milliseconds) {
  if (!Number.isFinite(milliseconds)) return '–';
  return milliseconds < 950 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
}

/** `12 s`, `4 min`, `2 h 5 min`. */
export function formatDuration(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  return minutes % 60 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${Math.floor(minutes / 60)} h`;
}
