// WHIP and WHEP by hand: RTCPeerConnection and fetch, nothing of the server's own scripts.

/** Waits until `peer` is connected; throws when it fails or after `timeout` ms. */
export function connected(peer, timeout = 10000) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`ICE ${peer.iceConnectionState}, DTLS ${peer.connectionState} after ${timeout} ms`)), timeout);
    const look = () => {
      if (peer.connectionState === "connected") {
        clearTimeout(timer);
        resolve();
      } else if (peer.connectionState === "failed") {
        clearTimeout(timer);
        reject(new Error("the connection failed"));
      }
    };
    peer.addEventListener("connectionstatechange", look);
    look();
  });
}

/**
 * POSTs the offer of `peer`, applies the answer, returns the session's URL.
 * Options: token; relay: the port to reach the server's candidates at instead of theirs; tcp: use the server's
 * TCP candidates only; turn: take the ICE
 * servers of the answer's Link headers before gathering, so that a relay-only peer has candidates at all.
 */
export async function negotiate(peer, endpoint, { token, relay, tcp = false, turn = false } = {}) {
  // RFC 9725 §4.6: servers that come with the answer can only be used by an offer that has not been applied.
  const offer = await peer.createOffer();
  if (!turn) {
    await peer.setLocalDescription(offer);
    await gathered(peer);
  }
  const headers = { "content-type": "application/sdp" };
  if (token) headers.authorization = `Bearer ${token}`;
  let body = turn ? offer.sdp : peer.localDescription.sdp;
  // Nor must the server find a way round the relay.
  if (relay) body = body.replace(/^a=candidate:.*\r\n/gm, "");
  const response = await fetch(endpoint, { method: "POST", headers, body });
  const answer = await response.text();
  if (response.status !== 201) throw new Error(`POST answered ${response.status}: ${answer}`);
  const location = response.headers.get("location");
  if (!location) throw new Error("the 201 has no Location that a script may read");
  if (turn) {
    const iceServers = servers(response.headers.get("link") ?? "");
    if (iceServers.length === 0) throw new Error("the 201 has no Link to an ICE server");
    peer.setConfiguration({ ...peer.getConfiguration(), iceServers });
    await peer.setLocalDescription(offer);
  }
  const changed = relay ? redirected(answer, relay) : tcp ? withoutUdp(answer) : answer;
  await peer.setRemoteDescription({ type: "answer", sdp: changed });
  return new URL(location, endpoint).href;
}

/** The answer with its UDP candidates at another port, and without those of TCP, which would go round it. */
function redirected(sdp, port) {
  const candidate = /^(a=candidate:\S+ \d+ )(\S+)( \d+ \S+ )\d+/;
  const lines = sdp.split("\r\n").filter((line) => !/^a=candidate:\S+ \d+ tcp/i.test(line));
  return lines.map((line) => line.replace(candidate, `$1$2$3${port}`)).join("\r\n");
}

/** The answer as if UDP were blocked: with its TCP candidates only. */
function withoutUdp(sdp) {
  return sdp.split("\r\n").filter((line) => !/^a=candidate:\S+ \d+ udp/i.test(line)).join("\r\n");
}

/** The ICE servers of a Link header, as RTCConfiguration takes them. */
function servers(link) {
  const found = [];
  for (const [, urls, parameters] of link.matchAll(/<([^>]+)>((?:\s*;\s*[\w-]+="[^"]*")*)/g)) {
    const values = Object.fromEntries([...parameters.matchAll(/([\w-]+)="([^"]*)"/g)].map(([, key, value]) => [key, value]));
    if (values.rel !== "ice-server") continue;
    found.push(values.username ? { urls, username: values.username, credential: values.credential } : { urls });
  }
  return found;
}

function gathered(peer) {
  if (peer.iceGatheringState === "complete") return Promise.resolve();
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, 1000);
    peer.addEventListener("icegatheringstatechange", () => {
      if (peer.iceGatheringState !== "complete") return;
      clearTimeout(timer);
      resolve();
    });
  });
}

/**
 * A publisher's connection: each track of `stream` sendonly, its picture in `codec` ("H264", "VP8", "VP9",
 * "AV1") alone, in these `encodings` (RTCRtpEncodingParameters) if there are any.
 */
export function publisher(stream, { codec = "H264", relayOnly = false, encodings } = {}) {
  const peer = connection(relayOnly);
  for (const track of stream.getTracks()) {
    const sendEncodings = track.kind === "video" ? (encodings ?? []) : [];
    const transceiver = peer.addTransceiver(track, { direction: "sendonly", streams: [stream], sendEncodings });
    if (track.kind === "video") only(transceiver, RTCRtpSender.getCapabilities("video").codecs, codec);
  }
  return peer;
}

/** A viewer's connection and the stream that its tracks arrive in; it takes pictures in `codec` alone if given. */
export function viewer({ audio = true, video = true, codec, relayOnly = false } = {}) {
  const peer = connection(relayOnly);
  const stream = new MediaStream();
  if (video) {
    const transceiver = peer.addTransceiver("video", { direction: "recvonly" });
    if (codec) only(transceiver, RTCRtpReceiver.getCapabilities("video").codecs, codec);
  }
  if (audio) peer.addTransceiver("audio", { direction: "recvonly" });
  peer.addEventListener("track", (event) => stream.addTrack(event.track));
  return { peer, stream };
}

function connection(relayOnly) {
  return new RTCPeerConnection({ bundlePolicy: "max-bundle", iceTransportPolicy: relayOnly ? "relay" : "all" });
}

function only(transceiver, codecs, codec) {
  const wanted = codecs.filter((one) => one.mimeType === `video/${codec}` || /rtx|red|ulpfec/.test(one.mimeType));
  if (!wanted.some((one) => one.mimeType === `video/${codec}`)) throw new Error(`this browser has no ${codec}`);
  transceiver.setCodecPreferences(wanted);
}

/** What `peer` has chosen to send from: `candidateType`, `protocol` and, where it is a relay, `relayProtocol`. */
export async function localCandidate(peer) {
  const [transport] = await stats(peer, "transport");
  const pairs = await stats(peer, "candidate-pair");
  const pair = pairs.find((one) => one.id === transport?.selectedCandidatePairId) ?? pairs.find((one) => one.selected);
  const found = (await stats(peer, "local-candidate")).find((one) => one.id === pair?.localCandidateId);
  return found && { candidateType: found.candidateType, protocol: found.protocol, relayProtocol: found.relayProtocol };
}

/** The entries of getStats with this `type`, as plain objects. */
export async function stats(peer, type) {
  const found = [];
  (await peer.getStats()).forEach((entry) => entry.type === type && found.push(entry));
  return found;
}
