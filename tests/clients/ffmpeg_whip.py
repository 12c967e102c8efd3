"""FFmpeg 8's WHIP muxer, as the PyPI package av bundles it: publishes H.264 baseline and Opus in real time.

    .venv/bin/python tests/clients/ffmpeg_whip.py '{"endpoint": "http://127.0.0.1:8080/show/whip"}'

Options: endpoint; token. Prints `connected` when the muxer has written its header, which it does after its
DTLS handshake. Goes away, with the muxer's DELETE, at the end of stdin, and prints `left`.
"""

import time

import av

from events import OPTIONS, emit, failing, until_stopped
from source import FPS, HEIGHT, RATE, WIDTH, picture, sound

CHUNK = 960


def main() -> None:
    stopped = until_stopped()
    options = {"authorization": OPTIONS["token"]} if "token" in OPTIONS else {}
    container = av.open(OPTIONS["endpoint"], "w", format="whip", options=options)
    encoding = {"preset": "ultrafast", "tune": "zerolatency", "profile": "baseline", "bf": "0", "g": str(FPS)}
    video = container.add_stream("libx264", rate=FPS, options=encoding)
    video.width, video.height, video.pix_fmt, video.bit_rate = WIDTH, HEIGHT, "yuv420p", 1_000_000
    audio = container.add_stream("libopus", rate=RATE)
    audio.layout = "stereo"
    started = time.monotonic()
    container.start_encoding()
    took = (time.monotonic() - started) * 1000
    emit("connected", libavformat=".".join(map(str, av.library_versions["libavformat"])), ms=round(took))

    origin = time.monotonic()
    frames = chunks = 0
    while not stopped.is_set():
        elapsed = time.monotonic() - origin
        while frames / FPS <= elapsed:
            container.mux(video.encode(picture(frames)))
            frames += 1
        while chunks * CHUNK / RATE <= elapsed:
            container.mux(audio.encode(sound(chunks * CHUNK, CHUNK)))
            chunks += 1
        time.sleep(0.002)
    container.close()
    emit("left", frames=frames)


failing(main)
