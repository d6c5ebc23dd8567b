"""PDQ: Facebook's perceptual hash of an image, 256 bits, and its quality, as a compiled loop.

D. Hill et al., The TMK+PDQF video-hashing algorithm and the PDQ image-hashing algorithm, 2019:
brightness, two passes of a box filter, 64 by 64 samples, 16 by 16 terms of their cosine transform,
and which of those are above their median. Each sum is rounded as ThreatExchange's code rounds it,
in the same order, so that bits are equal to those of the pdqhash package and not only near.
"""

import math

import numpy as np
import numpy.typing as npt

from pipeline.kernels import Bytes, kernel
from pipeline.lanes import light, slide, transpose
from pipeline.room import Room

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]

BYTES = 32
"""Of a hash."""

_SAMPLES, _TERMS = 64, 16
_LEAST_SIDE = 5
_SCALE = float(np.float32(math.sqrt(2 / _SAMPLES)))
_COSINES = np.array(
    [
        [_SCALE * math.cos(math.pi / 2 / _SAMPLES * i * (2 * j + 1)) for j in range(_SAMPLES)]
        for i in range(1, _TERMS + 1)
    ],
    np.float32,
)
_COSINES_DOWN = np.ascontiguousarray(_COSINES.T)


_room = Room()


def compute(pixels: Bytes) -> tuple[bytes, int]:
    """The hash, BYTES long, and the quality, 0 to 100, of `pixels`: rows, columns, and red, green
    and blue in 8 bits.

    Pixels without any detail have no quality and an arbitrary hash; a side below 5 pixels gives no
    quality and zeros, as with the pdqhash package.
    """
    if min(pixels.shape[:2]) < _LEAST_SIDE:
        return bytes(BYTES), 0
    height, width, _ = pixels.shape
    terms = np.zeros((_TERMS, _TERMS), np.float32)
    lines = _room.array("lines", (height, width), np.float32)
    turned = _room.array("turned", (width, height), np.float32)
    once = _room.array("once", (width, height), np.float32)
    pixels = np.ascontiguousarray(pixels)
    quality = _transformed(pixels, lines, turned, once, _COSINES, _COSINES_DOWN, terms)
    flat = terms.ravel()
    # Of an even number of terms the lower one of the middle.
    median = np.partition(flat, flat.size // 2 - 1)[flat.size // 2 - 1]
    return np.packbits(flat[::-1] > median).tobytes(), quality


@kernel
def _transformed(
    pixels: Bytes,
    lines: Floats,
    turned: Floats,
    once: Floats,
    cosines: Floats,
    cosines_down: Floats,
    terms: Floats,
) -> int:
    """Fill `terms`; the quality. `lines` (height, width), `turned` and `once` (width, height) are
    room to work in."""
    height, width, _ = pixels.shape
    samples = np.empty((_SAMPLES, _SAMPLES), np.float32)
    if height == _SAMPLES and width == _SAMPLES:
        _lighten(pixels, samples)
    else:
        columns, rows = _sampled(width), _sampled(height)
        _lighten(pixels, lines)
        transpose(lines, turned)
        _blur(turned, _window(width), np.arange(width), once)
        transpose(once, lines)
        twice = turned.reshape(height, width)
        _blur(lines, _window(height), np.arange(height), twice)
        transpose(twice, once)
        # Lines do not touch one another: only those that are sampled are blurred at last.
        chosen = np.empty((_SAMPLES, height), np.float32)
        _blur(once, _window(width), columns, chosen)
        upright = np.empty((height, _SAMPLES), np.float32)
        transpose(chosen, upright)
        _blur(upright, _window(height), rows, samples)
    half = np.zeros((_TERMS, _SAMPLES), np.float32)
    for i in range(_TERMS):
        for k in range(_SAMPLES):
            for j in range(_SAMPLES):
                half[i, j] += cosines[i, k] * samples[k, j]
    for i in range(_TERMS):
        for k in range(_SAMPLES):
            for j in range(_TERMS):
                terms[i, j] += half[i, k] * cosines_down[k, j]
    return _quality(samples)


@kernel
def _sampled(side: int) -> Places:
    places = np.empty(_SAMPLES, np.int64)
    for i in range(_SAMPLES):
        places[i] = int((i + 0.5) * side / _SAMPLES)
    return places


@kernel
def _lighten(pixels: Bytes, brightness: Floats) -> None:
    width = pixels.shape[1]
    for y in range(len(brightness)):
        light(pixels.reshape(-1), y * width, brightness[y])


@kernel
def _window(side: int) -> int:
    return (side + 2 * _SAMPLES - 1) // (2 * _SAMPLES)


@kernel
def _blur(lines: Floats, window: int, rows: Places, blurred: Floats) -> None:
    """The mean of a window that moves down each column and is cut off at its ends, at `rows`, which
    ascend."""
    height, width = lines.shape
    sums = np.zeros(width, np.float32)
    ahead = (window + 2) // 2 - 1
    found, place = 0, -ahead
    while place <= rows[-1]:
        enters, leaves = place + ahead, place + ahead - window
        if len(rows) == height and enters < height and leaves >= 0:
            # All rows are wanted, and the window is whole.
            count = height - enters
            slide(lines, enters, leaves, sums, window, blurred[place : place + count])
            found, place = found + count, place + count
            continue
        if enters < height and leaves >= 0:
            for x in range(width):
                sums[x] = (sums[x] + lines[enters, x]) - lines[leaves, x]
        elif enters < height:
            for x in range(width):
                sums[x] += lines[enters, x]
        elif leaves >= 0:
            for x in range(width):
                sums[x] -= lines[leaves, x]
        size = np.float32(min(enters + 1, height) - max(leaves + 1, 0))
        # Small pictures are sampled more than once at a place.
        while found < len(rows) and rows[found] == place:
            for x in range(width):
                blurred[found, x] = sums[x] / size
            found += 1
        place += 1


@kernel
def _quality(samples: Floats) -> int:
    """How much neighbouring samples differ, in whole percents of the range, up to 100."""
    total = 0
    for i in range(_SAMPLES - 1):
        for j in range(_SAMPLES):
            total += _percents(samples[i, j], samples[i + 1, j])
    for i in range(_SAMPLES):
        for j in range(_SAMPLES - 1):
            total += _percents(samples[i, j], samples[i, j + 1])
    return min(total // 90, 100)


@kernel
def _percents(one: float, other: float) -> int:
    return abs(np.int32((one - other) * np.float32(100) / np.float32(255)))
