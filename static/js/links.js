// What a session's answer names in `Link` headers (RFC 8288): STUN and TURN servers (RFC 9725 §4.6), extensions.

const LINK = /<([^>]*)>((?:\s*;\s*[^\s=;,]+(?:\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^\s;,"]*))?)*)/g;
const PARAMETER = /;\s*([^\s=;,]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*)))?/g;

/** The `iceServers` of an RTCConfiguration; empty when the header names none. */
export function iceServers(header) {
  return linksOf(header, 'ice-server').map(({ target, parameters: { username, credential } }) =>
    username === undefined ? { urls: target } : { urls: target, username, credential },
  );
}

/** The target of the first link of this relation, or null. */
export function linkTo(header, relation) {
  return linksOf(header, relation)[0]?.target ?? null;
}

function linksOf(header, relation) {
  const links = [];
  for (const [, target, rest] of (header ?? '').matchAll(LINK)) {
    const parameters = {};
    for (const [, name, quoted, bare] of rest.matchAll(PARAMETER)) {
      parameters[name.toLowerCase()] ??= quoted?.replace(/\\(.)/g, '$1') ?? bare ?? '';
    }
    if ((parameters.rel ?? '').split(' ').includes(relation)) links.push({ target, parameters });
  }
  return links;
}
