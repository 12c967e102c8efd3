"""What the Python clients publish: a moving picture that is white for the first 100 ms of each second, and a
1 kHz beep in the same 100 ms."""

import array
import fractions
import math

import av

RATE = 48_000
"""Samples a second; the sound is stereo."""
FPS = 30
WIDTH, HEIGHT = 640, 360

_BEEP = array.array(
    "h",
    (int(16_000 * math.sin(2 * math.pi * 1000 * (n // 2) / RATE)) if n // 2 < RATE // 10 else 0 for n in range(2 * RATE)),
)


def picture(number: int) -> av.VideoFrame:
    """The frame with this number, with its time."""
    frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
    if number % FPS < FPS // 10:
        row = bytes([235]) * WIDTH
    else:
        left = number * 4 % (WIDTH // 8)
        row = bytes(160 if (x - left) % (WIDTH // 8) < WIDTH // 16 else 60 for x in range(WIDTH))
    _fill(frame.planes[0], row)
    for plane in frame.planes[1:]:
        _fill(plane, bytes([128]) * (WIDTH // 2))
    frame.pts, frame.time_base = number, fractions.Fraction(1, FPS)
    return frame


def sound(first: int, count: int) -> av.AudioFrame:
    """`count` samples from the sample number `first` on, with their time; they must not cross a second."""
    frame = av.AudioFrame("s16", "stereo", count)
    at = 2 * (first % RATE)
    frame.planes[0].update(_BEEP[at : at + 2 * count].tobytes())
    frame.sample_rate = RATE
    frame.pts, frame.time_base = first, fractions.Fraction(1, RATE)
    return frame


def _fill(plane, row: bytes) -> None:
    padded = row + bytes(plane.line_size - len(row))
    plane.update(padded * plane.height)
