"""JPEG pixels: those of a JPEG that will be made smaller, decoded at a scale that costs less."""

import numpy as np
import simplejpeg

from pipeline.kernels import Bytes
from pipeline.room import Room
from pipeline.shrink import CHANNELS

_SCALES = (1, 2, 4)
"""Eighths at which libjpeg-turbo has fast code: at others a picture takes as long as in full."""
_SPARE = 1.4
"""How much larger than what is wanted a picture is decoded at least: scaled decoding is a poor
filter, and at 1.2 the picture is further from the ideal than that of OpenCV's INTER_AREA."""

_room = Room()


def decode(
    raw: bytes, size: tuple[int, int], target: tuple[int, int]
) -> tuple[Bytes, tuple[float, float]]:
    """The pixels, with a fourth channel, of a JPEG of `size` rows and columns that is to become
    `target`, and how many rows and columns of them are the picture. They last until this thread
    decodes the next one. Raises ValueError if anything is amiss."""
    enough = [m for m in _SCALES if m * min(size) >= 8 * _SPARE * min(target)]
    eighths = min(enough, default=8)
    height, width = (-(-side * eighths // 8) for side in size)
    buffer = _room.array("pixels", (height * width * CHANNELS,), np.uint8)
    pixels: Bytes = simplejpeg.decode_jpeg(
        raw, "RGBX", min_height=height, min_width=width, buffer=buffer
    )
    if pixels.shape[:2] != (height, width):
        raise ValueError("its size is not the one that its head told")
    return pixels, (size[0] * eighths / 8, size[1] * eighths / 8)
