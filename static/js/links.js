// STUN and TURN servers as a session's answer names them: `Link` headers (RFC 8288, RFC 9725 §4.6).

const LINK = /<([^>]*)>((?:\s*;\s*[^\s=;,]+(?:\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^\s;,"]*))?)*)/g;
const PARAMETER = /;\s*([^\s=;,]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*)))?/g;

/** The `iceServers` of an RTCConfiguration; empty when the header names none. */
export function iceServers(header) {
  const servers = [];
  for (const [, urls, rest] of (header ?? '').matchAll(LINK)) {
    const parameters = {};
    for (const [, name, quoted, bare] of rest.matchAll(PARAMETER)) {
      parameters[name.toLowerCase()] ??= quoted?.replace(/\\(.)/g, '$1') ?? bare ?? '';
    }
    if (!(parameters.rel ?? '').split(' ').includes('ice-server')) continue;
    const { username, credential } = parameters;
    servers.push(username === undefined ? { urls } : { urls, username, credential });
  }
  return servers;
}
