"""FFmpeg 8's FLV muxer, as the PyPI package av bundles it: publishes what needs Enhanced RTMP, in real time.

    .venv/bin/python tests/clients/ffmpeg_rtmp.py '{"endpoint": "rtmp://127.0.0.1:1935/live/show"}'

Options: endpoint; video "h264", "hevc", "av1" or "vp9" (hevc), or null; audio "aac", "opus" or "mp3" (aac), or
null; transfer, with ten bits a sample: "smpte2084" (PQ) or "arib-std-b67" (HLG) for hevc or av1. Prints `connected` when the publication has begun. Goes away at the end of stdin, and prints `left`.
"""

import time

import av

from events import OPTIONS, emit, failing, until_stopped
from source import FPS, HEIGHT, RATE, WIDTH, picture, sound

VIDEO = {
    "h264": ("libx264", {"preset": "ultrafast", "bf": "2", "g": str(FPS)}),
    "hevc": ("libx265", {"preset": "ultrafast", "x265-params": f"bframes=2:keyint={FPS}:pools=1:log-level=1"}),
    "av1": ("libsvtav1", {"preset": "10", "g": str(FPS), "svtav1-params": "pred-struct=1:rc=2:lp=1"}),
    "vp9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "g": str(FPS), "lag-in-frames": "0"}),
}
AUDIO = {"aac": ("aac", 1024), "opus": ("libopus", 960), "mp3": ("libmp3lame", 1152)}


def main() -> None:
    stopped = until_stopped()
    container = av.open(OPTIONS["endpoint"], "w", format="flv")
    video = audio = None
    if name := OPTIONS.get("video", "hevc"):
        encoder, encoding = VIDEO[name]
        video = container.add_stream(encoder, rate=FPS, options=encoding)
        video.width, video.height, video.pix_fmt, video.bit_rate = WIDTH, HEIGHT, "yuv420p", 1_000_000
        if transfer := OPTIONS.get("transfer"):
            video.pix_fmt = "yuv420p10le"
            video.codec_context.color_trc = {"smpte2084": 16, "arib-std-b67": 18}[transfer]
            video.codec_context.color_primaries = video.codec_context.colorspace = 9  # BT.2020
    if name := OPTIONS.get("audio", "aac"):
        encoder, chunk = AUDIO[name]
        audio = container.add_stream(encoder, rate=RATE)
        audio.layout = "stereo"
    container.start_encoding()
    emit("connected", libavformat=".".join(map(str, av.library_versions["libavformat"])))

    origin = time.monotonic()
    frames = samples = 0
    while not stopped.is_set():
        elapsed = time.monotonic() - origin
        while video and frames / FPS <= elapsed:
            container.mux(video.encode(picture(frames)))
            frames += 1
        while audio and samples / RATE <= elapsed:
            # A block must not cross a second; encoders take blocks of any size.
            count = min(chunk, RATE - samples % RATE)
            container.mux(audio.encode(sound(samples, count)))
            samples += count
        time.sleep(0.002)
    container.close()
    emit("left", frames=frames)


failing(main)
