// The HTTP half of WHIP (RFC 9725) and WHEP, which is the same for both: POST an offer, trickle candidates with
// PATCH, end with DELETE. Media and peer connections are none of its business.

import { iceServers, linkTo } from './links.js';
import { Problem, request } from './problem.js';

/** draft-ietf-wish-whep-events. */
const EVENTS = 'urn:ietf:params:whep:ext:core:server-sent-events';

/** Adds whatever this client's ICE agent gathers after the offer is sent. RFC 8840. */
const FRAGMENT = 'application/trickle-ice-sdpfrag';

export class SignallingSession {
  #url = null;
  #etag = null;
  #headers;
  #waiting = [];
  #credentials = '';
  #restarting = false;
  #events = null;
  /** STUN and TURN servers that the server told of, for an RTCConfiguration. */
  iceServers = [];

  /** `key` is sent as bearer token when there is one. */
  constructor(key) {
    this.#headers = key ? { Authorization: `Bearer ${key}` } : {};
  }

  /** The session's address, once the offer was accepted. */
  get url() {
    return this.#url;
  }

  /** Sends the offer to the endpoint and gives the answer's SDP. Throws a {@link Problem}. */
  async open(endpoint, offer, signal) {
    this.#credentials = iceCredentials(offer);
    const response = await request(endpoint, {
      method: 'POST',
      headers: { ...this.#headers, 'Content-Type': 'application/sdp' },
      body: offer,
      signal,
    });
    const location = response.headers.get('location');
    if (response.status !== 201 || !location) {
      throw new Problem(response.status, 'The server did not open a session.', '', null);
    }
    // RFC 9725 §4.2: Location may be relative, to the address that answered (after a 307, not the one asked).
    this.#url = new URL(location, response.url || new URL(endpoint, document.baseURI)).href;
    this.#etag = response.headers.get('etag');
    const links = response.headers.get('link');
    this.iceServers = iceServers(links);
    this.#events = linkTo(links, EVENTS);
    const answer = await response.text();
    this.#trickleNow();
    return answer;
  }

  /** Takes a candidate (or null after the last one) from the peer connection; sends it as soon as it may. */
  trickle(candidate) {
    // The server looks up no names, so there is no use in telling it the ones that hide local addresses.
    if (!candidate?.candidate || candidate.candidate.includes('.local ')) return;
    this.#waiting.push(candidate);
    if (this.#url) this.#trickleNow();
  }

  /**
   * Restarts ICE with the credentials of a new offer: gives the server's fragment (RFC 9725 §4.3.3). What is gathered
   * meanwhile waits for the new entity tag.
   */
  async restart(offer) {
    if (!this.#url) throw new Problem(0, 'There is no session.', '', null);
    this.#credentials = iceCredentials(offer);
    this.#waiting = [];
    this.#restarting = true;
    try {
      const headers = { ...this.#headers, 'Content-Type': FRAGMENT, 'If-Match': '*' };
      const response = await request(this.#url, { method: 'PATCH', headers, body: fragment(this.#credentials, []) });
      if (response.status !== 200) throw new Problem(response.status, 'The server did not restart.', '', null);
      this.#etag = response.headers.get('etag');
      return await response.text();
    } finally {
      this.#restarting = false;
      this.#trickleNow();
    }
  }

  /** Subscribes to events of these names: an EventSource, or null where the server tells none. */
  async subscribe(names) {
    if (!this.#events || !this.#url) return null;
    const headers = { ...this.#headers, 'Content-Type': 'application/json' };
    const response = await request(new URL(this.#events, this.#url), {
      method: 'POST',
      headers,
      body: JSON.stringify(names),
    });
    const location = response.headers.get('location');
    return location ? new EventSource(new URL(location, this.#url)) : null;
  }

  /** Ends the session. Safe to call in any state and while the page goes away; never throws. */
  close() {
    const url = this.#url;
    this.forget();
    if (!url) return Promise.resolve();
    return fetch(url, { method: 'DELETE', headers: this.#headers, keepalive: true }).catch(() => {});
  }

  /** The server has ended the session itself: there is nothing left to close. */
  forget() {
    this.#url = null;
    this.#waiting = [];
  }

  /** A lost candidate is no fault: the server learns addresses from the connectivity checks, too. */
  #trickleNow() {
    if (this.#waiting.length === 0 || !this.#url || this.#restarting) return;
    const body = fragment(this.#credentials, this.#waiting.splice(0));
    const headers = { ...this.#headers, 'Content-Type': FRAGMENT };
    if (this.#etag) headers['If-Match'] = this.#etag;
    fetch(this.#url, { method: 'PATCH', headers, body }).catch(() => {});
  }
}

/** The two ICE lines of an offer. All its media are bundled, so the first ones count. */
function iceCredentials(sdp) {
  const line = (name) => sdp.match(new RegExp(`^a=${name}:.*$`, 'm'))?.[0].trim() ?? '';
  return `${line('ice-ufrag')}\r\n${line('ice-pwd')}\r\n`;
}

function fragment(credentials, candidates) {
  const sections = new Map();
  for (const { sdpMid, candidate } of candidates) {
    sections.set(sdpMid, `${sections.get(sdpMid) ?? ''}a=${candidate}\r\n`);
  }
  let text = credentials;
  for (const [mid, lines] of sections) text += `m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:${mid}\r\n${lines}`;
  return text;
}
