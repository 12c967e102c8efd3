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

/** POSTs the offer of `peer`, applies the answer, returns the session's URL. */
export async function negotiate(peer, endpoint, token) {
  await peer.setLocalDescription();
  await gathered(peer);
  const headers = { "content-type": "application/sdp" };
  if (token) headers.authorization = `Bearer ${token}`;
  const response = await fetch(endpoint, { method: "POST", headers, body: peer.localDescription.sdp });
  const body = await response.text();
  if (response.status !== 201) throw new Error(`POST answered ${response.status}: ${body}`);
  const location = response.headers.get("location");
  if (!location) throw new Error("the 201 has no Location that a script may read");
  await peer.setRemoteDescription({ type: "answer", sdp: body });
  return new URL(location, endpoint).href;
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

/** A publisher's connection: each track of `stream` sendonly, H.264 where `codec` says so. */
export function publisher(stream, codec = "video/H264") {
  const peer = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
  for (const track of stream.getTracks()) {
    const transceiver = peer.addTransceiver(track, { direction: "sendonly", streams: [stream] });
    if (track.kind !== "video") continue;
    const all = RTCRtpSender.getCapabilities("video").codecs;
    const wanted = all.filter((one) => one.mimeType === codec || /rtx|red|ulpfec/.test(one.mimeType));
    transceiver.setCodecPreferences(wanted);
  }
  return peer;
}

/** A viewer's connection and the stream that its tracks arrive in. */
export function viewer({ audio = true, video = true } = {}) {
  const peer = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
  const stream = new MediaStream();
  if (video) peer.addTransceiver("video", { direction: "recvonly" });
  if (audio) peer.addTransceiver("audio", { direction: "recvonly" });
  peer.addEventListener("track", (event) => stream.addTrack(event.track));
  return { peer, stream };
}

/** The entries of getStats with this `type`, as plain objects. */
export async function stats(peer, type) {
  const found = [];
  (await peer.getStats()).forEach((entry) => entry.type === type && found.push(entry));
  return found;
}
