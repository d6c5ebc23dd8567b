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
from pipeline.lanes import light, light_columns, transpose
from pipeline.room import Room
from pipeline.sums import BROAD, SUMS, advance, multiply, slide

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
_COSINES_PARTS = np.ascontiguousarray(_COSINES_DOWN.reshape(_SAMPLES, -1, SUMS).swapaxes(0, 1))
"""Those of SUMS terms at once."""


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
    room = _room.array("lines", (3, _broad(height) * _broad(width)), np.float32)
    bits = np.zeros(BYTES, np.uint8)
    pixels = np.ascontiguousarray(pixels)
    quality = _hash(pixels, room, _COSINES_PARTS, _COSINES_DOWN, bits)
    return bits.tobytes(), quality


@kernel
def _hash(
    pixels: Bytes, room: Floats, cosines_parts: Floats, cosines_down: Floats, bits: Bytes
) -> int:
    """Fill `bits`; the quality. In `room` there is memory for three pictures."""
    samples = np.empty((_SAMPLES, _SAMPLES), np.float32)
    _sample(pixels, room, samples)
    terms = np.empty((_TERMS, _TERMS), np.float32)
    half, factors = np.empty((SUMS, _SAMPLES), np.float32), np.empty((_SAMPLES, SUMS), np.float32)
    for part in range(_TERMS // SUMS):
        multiply(samples, cosines_parts[part], half)
        transpose(half, factors)
        multiply(cosines_down, factors, terms[part * SUMS : (part + 1) * SUMS])
    flat = terms.reshape(-1)
    # Of an even number of terms the lower one of the middle.
    median = np.sort(flat)[len(flat) // 2 - 1]
    for place in range(len(flat)):
        if flat[len(flat) - 1 - place] > median:
            bits[place // 8] |= np.uint8(128 >> (place % 8))
    return _quality(samples)


@kernel
def _sample(pixels: Bytes, room: Floats, samples: Floats) -> None:
    height, width, _ = pixels.shape
    high, wide = _broad(height), _broad(width)
    lines = room[0].reshape(high, wide)
    turned, once = room[1].reshape(wide, high), room[2].reshape(wide, high)
    if height == _SAMPLES and width == _SAMPLES:
        for y in range(height):
            light(pixels.reshape(-1), y * width, samples[y])
        return
    turned[:width, height:] = 0
    light_columns(pixels.reshape(-1), height, width, turned)
    _blur(turned, width, _window(width), np.arange(width), once)
    transpose(once, lines)
    twice = room[1].reshape(high, wide)
    _blur(lines, height, _window(height), np.arange(height), twice)
    transpose(twice, once)
    # Lines do not touch one another: only those that are sampled are blurred at last.
    chosen = np.empty((_SAMPLES, high), np.float32)
    _blur(once, width, _window(width), _sampled(width), chosen)
    upright = np.empty((high, _SAMPLES), np.float32)
    transpose(chosen, upright)
    _blur(upright, height, _window(height), _sampled(height), samples)


@kernel
def _sampled(side: int) -> Places:
    places = np.empty(_SAMPLES, np.int64)
    for i in range(_SAMPLES):
        places[i] = int((i + 0.5) * side / _SAMPLES)
    return places


@kernel
def _broad(side: int) -> int:
    """Whole registers of columns: what is beyond the picture is never looked at."""
    return (side + BROAD - 1) // BROAD * BROAD


@kernel
def _window(side: int) -> int:
    return (side + 2 * _SAMPLES - 1) // (2 * _SAMPLES)


@kernel
def _blur(lines: Floats, height: int, window: int, rows: Places, blurred: Floats) -> None:
    """The mean of a window that moves down each column of the first `height` lines, and is cut off
    at their ends, at `rows`, which ascend."""
    width = lines.shape[1]
    sums = np.zeros(width, np.float32)
    ahead = (window + 2) // 2 - 1
    found, place = 0, -ahead
    while place <= rows[-1]:
        enters, leaves = place + ahead, place + ahead - window
        if enters < height and leaves >= 0:
            # The window is whole, and stays so up to the last line.
            if len(rows) == height:
                count = height - enters
            else:
                unseen = min(rows[found] - place, height - enters)
                advance(lines, enters, leaves, unseen, sums)
                place, enters, leaves = place + unseen, enters + unseen, leaves + unseen
                count = 1 if enters < height else 0
            slide(lines, enters, leaves, sums, window, blurred[found : found + count])
            found += count
            # Small pictures are sampled more than once at a place.
            while count == 1 and found < len(rows) and rows[found] == place:
                blurred[found] = blurred[found - 1]
                found += 1
            place += count
            continue
        if enters < height:
            for x in range(width):
                sums[x] += lines[enters, x]
        elif leaves >= 0:
            for x in range(width):
                sums[x] -= lines[leaves, x]
        size = np.float32(min(enters + 1, height) - max(leaves + 1, 0))
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
