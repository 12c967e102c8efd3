"""What the Python clients publish: a moving picture that is white for the first 100 ms of each second, and a
1 kHz beep in the same 100 ms."""

import av
import numpy

RATE = 48_000
FPS = 30
WIDTH, HEIGHT = 640, 360


def picture(number: int) -> av.VideoFrame:
    """The frame with this number at 30 frames a second."""
    if number % FPS < FPS // 10:
        pixels = numpy.full((HEIGHT, WIDTH, 3), 255, numpy.uint8)
    else:
        pixels = numpy.full((HEIGHT, WIDTH, 3), (32, 64, 96), numpy.uint8)
        for bar in range(8):
            left = (bar * WIDTH // 8 + number * 4) % WIDTH
            pixels[40:-40, left : left + WIDTH // 16] = (bar * 30, 200 - bar * 20, 60)
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
    return frame


def sound(first: int, count: int) -> av.AudioFrame:
    """`count` stereo samples from the sample number `first` on."""
    time = (first + numpy.arange(count)) / RATE % 1
    mono = numpy.where(time < 0.1, 16_000 * numpy.sin(2 * numpy.pi * 1000 * time), 0).astype(numpy.int16)
    frame = av.AudioFrame.from_ndarray(numpy.repeat(mono, 2).reshape(1, -1), format="s16", layout="stereo")
    frame.sample_rate = RATE
    return frame
