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

Floats = npt.NDArray[np.float32]

_SAMPLES, _TERMS = 64, 16
_LEAST_SIDE = 5
_PASSES = 2
_LANES = 16
_SCALE = float(np.float32(math.sqrt(2 / _SAMPLES)))
_COSINES = np.array(
    [
        [_SCALE * math.cos(math.pi / 2 / _SAMPLES * i * (2 * j + 1)) for j in range(_SAMPLES)]
        for i in range(1, _TERMS + 1)
    ],
    np.float32,
)


def compute(pixels: Bytes) -> tuple[bytes, int]:
    """The hash and the quality of rows and columns of red, green and blue.

    Pixels without any detail have no quality and an arbitrary hash.
    """
    if min(pixels.shape[:2]) < _LEAST_SIDE:
        return bytes(_TERMS * _TERMS // 8), 0
    terms = np.zeros((_TERMS, _TERMS), np.float32)
    quality = _transformed(pixels, _COSINES, terms)
    flat = terms.ravel()
    # Of an even number of terms the lower one of the middle.
    median = np.partition(flat, flat.size // 2 - 1)[flat.size // 2 - 1]
    return np.packbits(flat[::-1] > median).tobytes(), quality


@kernel
def _transformed(pixels: Bytes, cosines: Floats, terms: Floats) -> int:
    """Fill `terms`; the quality."""
    height, width, _ = pixels.shape
    light = np.empty((height, width), np.float32)
    for y in range(height):
        for x in range(width):
            red, green, blue = pixels[y, x, 0], pixels[y, x, 1], pixels[y, x, 2]
            light[y, x] = np.float32(red * 0.299 + green * 0.587 + blue * 0.114)
    samples = np.empty((_SAMPLES, _SAMPLES), np.float32)
    columns = np.empty(_SAMPLES, np.int64)
    for j in range(_SAMPLES):
        columns[j] = int((j + 0.5) * width / _SAMPLES)
    chosen = np.empty((height, _SAMPLES), np.float32)
    if height == _SAMPLES and width == _SAMPLES:
        samples[:] = light
    else:
        other = np.empty((height, width), np.float32)
        for turn in range(_PASSES):
            _blur_rows(light, other)
            if turn < _PASSES - 1:
                _blur_columns(other, light, _window(height))
        # Columns do not touch one another: only those that are sampled are blurred at last.
        for y in range(height):
            for j in range(_SAMPLES):
                chosen[y, j] = other[y, columns[j]]
        blurred = np.empty((height, _SAMPLES), np.float32)
        _blur_columns(chosen, blurred, _window(height))
        for i in range(_SAMPLES):
            samples[i] = blurred[int((i + 0.5) * height / _SAMPLES)]
    half = np.zeros((_TERMS, _SAMPLES), np.float32)
    for i in range(_TERMS):
        for k in range(_SAMPLES):
            for j in range(_SAMPLES):
                half[i, j] += cosines[i, k] * samples[k, j]
    for i in range(_TERMS):
        for k in range(_SAMPLES):
            for j in range(_TERMS):
                terms[i, j] += half[i, k] * cosines[j, k]
    return _quality(samples)


@kernel
def _window(side: int) -> int:
    return (side + 2 * _SAMPLES - 1) // (2 * _SAMPLES)


@kernel
def _blur_rows(source: Floats, blurred: Floats) -> None:
    """Rows side by side as columns, which a core blurs abreast."""
    height, width = source.shape
    window = _window(width)
    turned = np.zeros((width, _LANES), np.float32)
    done = np.empty((width, _LANES), np.float32)
    for top in range(0, height, _LANES):
        rows = min(_LANES, height - top)
        for y in range(rows):
            for x in range(width):
                turned[x, y] = source[top + y, x]
        _blur_columns(turned, done, window)
        for y in range(rows):
            for x in range(width):
                blurred[top + y, x] = done[x, y]


@kernel
def _blur_columns(source: Floats, blurred: Floats, window: int) -> None:
    """The mean of a window that moves down each column and is cut off at its ends."""
    height, width = source.shape
    sums = np.zeros(width, np.float32)
    ahead = (window + 2) // 2 - 1
    for place in range(-ahead, height):
        enters, leaves = place + ahead, place + ahead - window
        size = np.float32(min(enters + 1, height) - max(leaves + 1, 0))
        if enters < height and leaves >= 0:
            for x in range(width):
                sums[x] = (sums[x] + source[enters, x]) - source[leaves, x]
        elif enters < height:
            for x in range(width):
                sums[x] += source[enters, x]
        elif leaves >= 0:
            for x in range(width):
                sums[x] -= source[leaves, x]
        if place >= 0:
            for x in range(width):
                blurred[place, x] = sums[x] / size


@kernel
def _quality(samples: Floats) -> int:
    """How much neighbouring samples differ, in whole percents of the range, up to 100."""
    total = 0
    scale, whole = np.float32(100), np.float32(255)
    for i in range(_SAMPLES):
        for j in range(_SAMPLES):
            if i + 1 < _SAMPLES:
                total += abs(int((samples[i, j] - samples[i + 1, j]) * scale / whole))
            if j + 1 < _SAMPLES:
                total += abs(int((samples[i, j] - samples[i, j + 1]) * scale / whole))
    return min(total // 90, 100)
