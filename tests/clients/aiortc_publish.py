"""aiortc as a WHIP publisher.

    .venv/bin/python tests/clients/aiortc_publish.py '{"endpoint": "http://127.0.0.1:8080/show/whip"}'

Options: endpoint; token; codec "H264" or "VP8" (H264); relay: port of a relay before the server. Prints
`connected`; ends its session by DELETE at the end of stdin, and prints `left` with the answer's status.
"""

import asyncio
import time

from aiortc import MediaStreamTrack, RTCPeerConnection, RTCRtpSender

from events import OPTIONS, emit, failing, until_stopped
from signalling import connected, negotiate, request
from source import FPS, RATE, picture, sound

CHUNK = 960


class Paced(MediaStreamTrack):
    """Gives each unit when it is due by a clock that both tracks share."""

    def __init__(self, origin: float, unit):
        super().__init__()
        self.origin, self.unit, self.count = origin, unit, 0

    async def recv(self):
        frame, due = self.unit(self.count)
        self.count += 1
        await asyncio.sleep(max(0, self.origin + due - time.monotonic()))
        return frame


class Picture(Paced):
    kind = "video"

    def __init__(self, origin: float):
        super().__init__(origin, lambda number: (picture(number), number / FPS))


class Sound(Paced):
    kind = "audio"

    def __init__(self, origin: float):
        super().__init__(origin, lambda number: (sound(number * CHUNK, CHUNK), number * CHUNK / RATE))


async def publish() -> None:
    stopped = until_stopped()
    peer = RTCPeerConnection()
    origin = time.monotonic()
    video = peer.addTransceiver(Picture(origin), direction="sendonly")
    peer.addTransceiver(Sound(origin), direction="sendonly")
    wanted = f"video/{OPTIONS.get('codec', 'H264')}".lower()
    codecs = RTCRtpSender.getCapabilities("video").codecs
    video.setCodecPreferences([codec for codec in codecs if codec.mimeType.lower() in (wanted, "video/rtx")])
    started = time.monotonic()
    session = await negotiate(peer, OPTIONS)
    await connected(peer)
    emit("connected", session=session, ms=round((time.monotonic() - started) * 1000))
    while not stopped.is_set():
        await asyncio.sleep(0.05)
    status, _, _ = await request("DELETE", session, OPTIONS.get("token"))
    await peer.close()
    emit("left", status=status)


failing(lambda: asyncio.run(publish()))
