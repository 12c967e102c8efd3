"""aiortc as a WHEP viewer: decodes what arrives and counts it.

    .venv/bin/python tests/clients/aiortc_view.py '{"endpoint": "http://127.0.0.1:8080/show/whep", "seconds": 5}'

Options: endpoint; token; codec: the only one offered for pictures; relay: port of a relay before the server;
seconds to look at (5), from the first picture on; profiles: the protection profiles of SRTP that it offers, by
OpenSSL's names, in this order. Prints `playing` at the first picture and `result`: codec, profile (the one of
SRTP that was agreed upon), width, height, frames, flashes, samples, and energy (mean square of the samples).
"""

import asyncio
import time

from aiortc import RTCPeerConnection, RTCRtpReceiver, rtcdtlstransport
from aiortc.mediastreams import MediaStreamError

from events import OPTIONS, emit, failing
from signalling import connected, negotiate, request


class Seen:
    """What has been decoded since `counting` was set."""

    def __init__(self):
        self.counting = False
        self.frames = self.whites = self.samples = self.squares = self.width = self.height = 0
        self.first = asyncio.Event()

    async def look(self, track) -> None:
        was_white = True
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            if track.kind == "video":
                self.first.set()
                self.width, self.height = frame.width, frame.height
                plane = bytes(frame.planes[0])[::997]
                white = sum(plane) / len(plane) > 200
                if self.counting:
                    self.frames += 1
                    self.whites += white and not was_white
                was_white = white
            elif self.counting:
                values = memoryview(bytes(frame.planes[0])).cast("h")[::7]
                self.squares += sum((value / 32768) ** 2 for value in values) / max(1, len(values)) * frame.samples
                self.samples += frame.samples


async def view() -> None:
    if "profiles" in OPTIONS:
        known = {profile.openssl_profile.decode(): profile for profile in rtcdtlstransport.SRTP_PROFILES}
        rtcdtlstransport.SRTP_PROFILES[:] = [known[name] for name in OPTIONS["profiles"]]
    peer = RTCPeerConnection()
    seen, tasks = Seen(), []
    peer.on("track", lambda track: tasks.append(asyncio.ensure_future(seen.look(track))))
    video = peer.addTransceiver("video", direction="recvonly")
    peer.addTransceiver("audio", direction="recvonly")
    if "codec" in OPTIONS:
        wanted = (f"video/{OPTIONS['codec']}".lower(), "video/rtx")
        codecs = RTCRtpReceiver.getCapabilities("video").codecs
        video.setCodecPreferences([codec for codec in codecs if codec.mimeType.lower() in wanted])
    started = time.monotonic()
    session = await negotiate(peer, OPTIONS)
    await connected(peer)
    async with asyncio.timeout(15):
        await seen.first.wait()
    emit("playing", ms=round((time.monotonic() - started) * 1000))
    seen.counting = True
    begun = time.monotonic()
    await asyncio.sleep(OPTIONS.get("seconds", 5))
    seen.counting = False
    sdp = peer.remoteDescription.sdp
    codec = sdp[sdp.index("m=video"):].split("a=rtpmap:")[1].split()[1].split("/")[0]
    emit(
        "result", seconds=time.monotonic() - begun, codec=codec, width=seen.width, height=seen.height,
        profile=video.receiver.transport._ssl.get_selected_srtp_profile().decode(),
        frames=seen.frames, flashes=seen.whites, samples=seen.samples,
        energy=seen.squares / max(1, seen.samples),
    )
    status, _, _ = await request("DELETE", session, OPTIONS.get("token"))
    await peer.close()
    emit("left", status=status)


failing(lambda: asyncio.run(view()))
