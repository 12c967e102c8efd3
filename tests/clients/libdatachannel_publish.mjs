// A WHIP publisher on libdatachannel, the stack inside OBS, with OBS's habits: an offer without candidates,
// payload types 111 and 96, SPS and PPS as packets of their own, keyframes of several slices, fragments of
// 1200 bytes, a keyframe each 2 s and no ear for PLI.
//   node tests/clients/libdatachannel_publish.mjs '{"endpoint":"http://127.0.0.1:8080/show/whip"}'
// Options: endpoint; token; relay: port of a relay before the server; codec "H264" or "H265" (H264).
// Prints `connected`, and `left` after its DELETE at the end of stdin.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import {
  Audio, H264RtpPacketizer, H265RtpPacketizer, PeerConnection, RtcpNackResponder, RtcpSrReporter, RtpPacketizationConfig,
  RtpPacketizer, Video,
} from "node-datachannel";

const options = JSON.parse(process.argv[2] ?? "{}");
const emit = (event, details = {}) => process.stdout.write(`${JSON.stringify({ event, ...details })}\n`);
const FRAGMENT = 1200;
const hevc = options.codec === "H265";

const PICTURE = "testsrc2=s=640x360:r=30,drawbox=t=fill:c=white:enable='lt(mod(t+0.001,1),0.1)',format=yuv420p";
const SOUND = "aevalsrc='if(lt(mod(t,1),0.1),0.5*sin(2*PI*1000*t),0)|if(lt(mod(t,1),0.1),0.5*sin(2*PI*1000*t),0)':s=48000:c=stereo";

/** ffmpeg in real time: access units begin with a delimiter on fd 1, Opus comes in Ogg on fd 3. */
function encoder() {
  const inputs = ["-re", "-f", "lavfi", "-i", PICTURE, "-re", "-f", "lavfi", "-i", SOUND];
  const video = hevc
    ? ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error:bframes=0:keyint=60:open-gop=0:aud=1:repeat-headers=1:slices=2", "-f", "hevc"]
    : ["-c:v", "libx264", "-preset", "ultrafast", "-bf", "0", "-g", "60", "-b:v", "1500k", "-x264-params", "slices=4:aud=1", "-f", "h264"];
  const audio = ["-c:a", "libopus", "-b:a", "96k", "-page_duration", "20000", "-flush_packets", "1", "-f", "ogg"];
  const args = ["-v", "fatal", "-nostdin", ...inputs, "-map", "0:v", ...video, "pipe:1", "-map", "1:a", ...audio, "pipe:3"];
  return spawn("ffmpeg", args, { stdio: ["ignore", "pipe", "inherit", "pipe"] });
}

/** Calls `take(unit)` with each access unit of an Annex B stream, without its delimiter. */
function accessUnits(stream, take) {
  const delimiter = hevc ? Buffer.from([0, 0, 0, 1, 0x46, 1]) : Buffer.from([0, 0, 0, 1, 9]);
  let held = Buffer.alloc(0);
  stream.on("data", (data) => {
    held = Buffer.concat([held, data]);
    for (;;) {
      const next = held.indexOf(delimiter, delimiter.length);
      if (next < 0) return;
      const unit = held.subarray(0, next);
      held = held.subarray(next);
      // The delimiter is 2 bytes and a payload of 1 in either codec.
      take(Buffer.from(unit.subarray(delimiter.length + 1)));
    }
  });
}

/** Calls `take(packet)` with each packet of an Ogg stream that has one a page, without its two headers. */
function oggPackets(stream, take) {
  let held = Buffer.alloc(0);
  let pages = 0;
  stream.on("data", (data) => {
    held = Buffer.concat([held, data]);
    for (;;) {
      if (held.length < 27 || held.length < 27 + held[26]) return;
      const body = 27 + held[26];
      const length = held.subarray(27, body).reduce((sum, lace) => sum + lace, 0);
      if (held.length < body + length) return;
      if (pages++ >= 2) take(Buffer.from(held.subarray(body, body + length)));
      held = held.subarray(body + length);
    }
  });
}

/** A track that packs what `sendMessageBinary` takes, answers NACK and reports. */
function add(peer, media, packetizer, config) {
  const track = peer.addTrack(media);
  packetizer.addToChain(new RtcpSrReporter(config));
  packetizer.addToChain(new RtcpNackResponder());
  track.setMediaHandler(packetizer);
  return track;
}

async function publish() {
  const peer = new PeerConnection("publisher", { iceServers: [] });
  const [audioSsrc, videoSsrc] = [Math.trunc(Math.random() * 2 ** 31), Math.trunc(Math.random() * 2 ** 31)];
  const audio = new Audio("0", "SendOnly");
  audio.addOpusCodec(111);
  audio.addSSRC(audioSsrc, "client", "client-stream", "client-audio");
  const audioConfig = new RtpPacketizationConfig(audioSsrc, "client", 111, 48000);
  const audioTrack = add(peer, audio, new RtpPacketizer(audioConfig), audioConfig);
  const video = new Video("1", "SendOnly");
  if (hevc) video.addH265Codec(96);
  else video.addH264Codec(96, "profile-level-id=42e01f;packetization-mode=1;level-asymmetry-allowed=1");
  video.addSSRC(videoSsrc, "client", "client-stream", "client-video");
  const videoConfig = new RtpPacketizationConfig(videoSsrc, "client", 96, 90000);
  const Packetizer = hevc ? H265RtpPacketizer : H264RtpPacketizer;
  const videoTrack = add(peer, video, new Packetizer("StartSequence", videoConfig, FRAGMENT), videoConfig);

  const connected = new Promise((resolve, reject) => {
    peer.onStateChange((state) => {
      if (state === "connected") resolve();
      if (state === "failed") reject(new Error("the connection failed"));
    });
    setTimeout(() => reject(new Error("not connected after 10 s")), 10_000).unref();
  });
  const offered = new Promise((resolve) => peer.onLocalDescription((sdp) => resolve(sdp)));
  peer.setLocalDescription();
  const offer = (await offered).replace(/^a=candidate:.*\r\n/gm, "").replace(/^a=end-of-candidates\r\n/gm, "");
  const headers = { "content-type": "application/sdp", ...(options.token && { authorization: `Bearer ${options.token}` }) };
  const started = performance.now();
  const response = await fetch(options.endpoint, { method: "POST", headers, body: offer });
  let answer = await response.text();
  if (response.status !== 201) throw new Error(`POST answered ${response.status}: ${answer}`);
  const session = new URL(response.headers.get("location"), options.endpoint);
  if (options.relay) answer = answer.replace(/^(a=candidate:\S+ \d+ udp \d+ \S+) \d+/gim, `$1 ${options.relay}`);
  peer.setRemoteDescription(answer, "answer");
  await connected;
  emit("connected", { session: session.href, ms: Math.round(performance.now() - started) });

  const source = encoder();
  let [frames, packets, sends] = [0, 0, true];
  accessUnits(source.stdout, (unit) => {
    videoConfig.timestamp = (frames++ * 3000) >>> 0;
    if (sends && videoTrack.isOpen()) videoTrack.sendMessageBinary(unit);
  });
  oggPackets(source.stdio[3], (packet) => {
    audioConfig.timestamp = (packets++ * 960) >>> 0;
    if (sends && audioTrack.isOpen()) audioTrack.sendMessageBinary(packet);
  });

  const input = createInterface({ input: process.stdin });
  await new Promise((stop) => {
    input.on("line", (line) => line.trim() === "stop" && stop());
    input.on("close", stop);
    source.on("exit", stop);
  });
  sends = false; // what the encoder still gives would meet a track that closes, and that throws
  source.kill();
  const left = await fetch(session, { method: "DELETE", headers: { authorization: headers.authorization ?? "" } });
  peer.close();
  emit("left", { status: left.status, frames, packets });
}

try {
  await publish();
  process.exit(0);
} catch (error) {
  emit("failed", { message: String(error.message ?? error) });
  process.exit(1);
}
