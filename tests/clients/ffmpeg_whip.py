"""FFmpeg 8's WHIP muxer, as the PyPI package av bundles it: publishes H.264 baseline and Opus in real time.

    .venv/bin/python tests/clients/ffmpeg_whip.py '{"endpoint": "http://127.0.0.1:8080/show/whip"}'

Options: endpoint; token. Prints `connected` when the muxer has written its header, which it does after its
DTLS handshake; goes away, with the muxer's DELETE, at the end of stdin.
"""

import fractions
import time

import av

from events import OPTIONS, emit, until_stopped
from source import FPS, HEIGHT, RATE, WIDTH, picture, sound

CHUNK = 960


def main() -> None:
    stopped = until_stopped()
    options = {"authorization": OPTIONS["token"]} if "token" in OPTIONS else {}
    container = av.open(OPTIONS["endpoint"], "w", format="whip", options=options)
    video = container.add_stream("libx264", rate=FPS, options={
        "preset": "ultrafast", "tune": "zerolatency", "profile": "baseline", "bf": "0", "g": str(FPS),
    })
    video.width, video.height, video.pix_fmt, video.bit_rate = WIDTH, HEIGHT, "yuv420p", 1_000_000
    audio = container.add_stream("libopus", rate=RATE)
    audio.layout = "stereo"
    container.start_encoding()
    emit("connected", ffmpeg=".".join(map(str, av.library_versions["libavformat"])))

    origin = time.monotonic()
    frames = chunks = 0
    while not stopped.is_set():
        elapsed = time.monotonic() - origin
        while frames / FPS <= elapsed:
            frame = picture(frames)
            frame.pts, frame.time_base = frames, fractions.Fraction(1, FPS)
            container.mux(video.encode(frame))
            frames += 1
        while chunks * CHUNK / RATE <= elapsed:
            frame = sound(chunks * CHUNK, CHUNK)
            frame.pts, frame.time_base = chunks * CHUNK, fractions.Fraction(1, RATE)
            container.mux(audio.encode(frame))
            chunks += 1
        time.sleep(0.002)
    container.close()
    emit("left", frames=frames)


main()
