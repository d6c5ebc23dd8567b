"""pHash: 64 bits of an image, as the imagehash package has them.

Grey, 32 by 32 pixels by Lanczos' filter, their cosine transform, and which of its 8 by 8 lowest
terms are above their median. `phash` does Pillow's own arithmetic in whole numbers and gives
imagehash's bits. The fast ones leave out the rounding between the steps: filter and transform are
then two small matrices per size of image.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import simplejpeg

from pipeline import lanes
from pipeline.kernels import Bytes, kernel
from pipeline.room import Room
from pipeline.sums import add_lines, multiply

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

SMALL, LOW = 32, 8
"""Pixels of a side of the small picture, and terms of a side of the transform."""
NOISE = 1e-6
"""By more than this a term must be above the median. The largest is some 10**6, and the rounding of
64 bits some 10**-10: terms that are nearer than NOISE are equal, and which of equals floats put on
top is no property of the image."""
_FAST_NOISE = 1.0
"""The same for floats of 32 bits, whose rounding in flat images was 0.35 at most. Of 239 photos one
had a term so near its median."""

_REACH = 3.0
_WHOLE_BITS = 32 - 8 - 2
_MOST_KEPT = 4096
"""Pixels of a side: the weights of longer ones are large, rare, and not kept."""
_SCALES = (1, 2, 4)
"""Eighths at which libjpeg-turbo has fast code."""
_ENOUGH = 64
"""Pixels of the shorter side of a JPEG decoded at a scale: at 32 the scale is all the filter."""

_COSINES = np.array(
    [
        [2 * math.cos(math.pi * i * (2 * j + 1) / (2 * SMALL)) for j in range(SMALL)]
        for i in range(LOW)
    ]
)


_room = Room()


class _Taps(NamedTuple):
    """How much of which pixels each of SMALL pixels is made of, in 2**-_WHOLE_BITS."""

    first: npt.NDArray[np.int64]
    count: npt.NDArray[np.int64]
    weights: npt.NDArray[np.int32]


def phash(pixels: Bytes) -> int:
    """The hash of `pixels`: rows, columns, and red, green and blue in 8 bits; of any size.

    64 bits as a signed number, whose highest bit is the first of imagehash's. They are those of
    `imagehash.phash` 4.3.2 with Pillow 13, except where a term equals the median but for the
    rounding of floats: there it is noise in imagehash, and 0 here.
    """
    return int(_hash_of(_low_terms(_small(_grey_of(pixels)), _COSINES), NOISE))


def phash_fast(pixels: Bytes) -> int:
    """As `phash`, but for a bit in some hundreds: without rounding between the steps."""
    return _fused(_grey_of(pixels))


def phash_batch(images: Sequence[Bytes], *, fast: bool = False) -> npt.NDArray[np.int64]:
    """The hashes of many images, each as `phash` or `phash_fast` has it, in the order of `images`.
    Those of one size are done one after the other, and share their matrices."""
    found = np.empty(len(images), np.int64)
    for place in sorted(range(len(images)), key=lambda place: images[place].shape):
        found[place] = (phash_fast if fast else phash)(images[place])
    return found


def phash_of_jpeg(data: bytes) -> int:
    """As `phash_fast`, of a JPEG that is decoded in grey, at a scale that leaves 64 pixels or more.
    Its EXIF is not looked at: a turned picture has the hash of its stored pixels. Raises ValueError
    where libjpeg-turbo finds anything amiss."""
    height, width, *_ = simplejpeg.decode_jpeg_header(data)
    enough = [eighths for eighths in _SCALES if min(height, width) * eighths >= 8 * _ENOUGH]
    eighths = min(enough, default=8)
    rows, columns = (-(-side * eighths // 8) for side in (height, width))
    decoded = simplejpeg.decode_jpeg(data, "GRAY", min_height=rows, min_width=columns)
    return _fused(decoded[..., 0])


def grey(pixels: Bytes) -> Bytes:
    """Rows and columns of grey, as Pillow converts RGB to L."""
    return _grey_in(np.empty(pixels.shape[:2], np.uint8), pixels)


def _grey_of(pixels: Bytes) -> Bytes:
    return _grey_in(_room.array("grey", pixels.shape[:2], np.uint8), pixels)


def _grey_in(found: Bytes, pixels: Bytes) -> Bytes:
    _fill(np.ascontiguousarray(pixels), found)
    return found


def _small(lines: Bytes) -> Bytes:
    """As Pillow 13 shrinks or enlarges grey to SMALL by SMALL pixels: the rows first, unless the
    columns shrink by far more."""
    height, width = lines.shape
    is_tall = height > SMALL and height - SMALL > 2 * (width - SMALL)
    if is_tall:
        turned = lines
    else:
        turned = _room.array("turned", (width, height), np.uint8)
        lanes.transpose(lines, turned)
    once = _shrunk(turned)
    across = np.empty(once.shape[::-1], np.uint8)
    lanes.transpose(once, across)
    twice = _shrunk(across)
    return np.ascontiguousarray(twice.T) if is_tall else twice


def _shrunk(lines: Bytes) -> Bytes:
    """SMALL rows instead of as many as there are."""
    if len(lines) == SMALL:
        return lines
    found: Bytes = np.empty((SMALL, lines.shape[1]), np.uint8)
    # The weights of a very long side are many: those of one pixel at a time.
    step = SMALL if len(lines) <= _MOST_KEPT else 1
    for place in range(0, SMALL, step):
        taps = (_kept_taps if step > 1 else _taps)(len(lines), place, place + step)
        _weigh_lines(lines, *taps, found[place : place + step])
    return found


def _fused(lines: Bytes) -> int:
    height, width = lines.shape
    if max(height, width) > _MOST_KEPT:
        return int(_hash_of(_low_terms(_small(lines), _COSINES), NOISE))
    terms = _fused_terms(lines, _fused_matrix(height), _fused_matrix(width))
    return int(_hash_of(terms, _FAST_NOISE))


@lru_cache(maxsize=512)
def _kept_taps(side: int, begin: int, end: int) -> _Taps:
    return _taps(side, begin, end)


@lru_cache(maxsize=512)
def _fused_matrix(side: int) -> Floats:
    """LOW terms of a line of `side` pixels: filtered to SMALL and transformed."""
    matrix = np.zeros((side, LOW))
    for place in range(SMALL):
        taps = _taps(side, place, place + 1)
        weights = taps.weights[0] / (1 << _WHOLE_BITS)
        begin = taps.first[0]
        matrix[begin : begin + len(weights)] += weights[:, None] * _COSINES[:, place]
    return matrix.astype(np.float32)


def _taps(side: int, begin: int, end: int) -> _Taps:
    return _Taps(*_found_taps(side, begin, end))


@kernel
def _found_taps(
    side: int, begin: int, end: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Of the pixels from `begin` to `end`. Sums and roundings are Pillow's, in Pillow's order."""
    scale = side / SMALL
    stretch = max(scale, 1.0)
    reach = _REACH * stretch
    first, count = np.empty(end - begin, np.int64), np.empty(end - begin, np.int64)
    for place in range(begin, end):
        centre = (place + 0.5) * scale
        first[place - begin] = max(0, int(centre - reach + 0.5))
        count[place - begin] = min(side, int(centre + reach + 0.5)) - first[place - begin]
    weights = np.zeros((end - begin, count.max()), np.int32)
    line = np.empty(count.max(), np.float64)
    for row in range(end - begin):
        centre = (begin + row + 0.5) * scale
        total = 0.0
        for tap in range(count[row]):
            line[tap] = _lanczos((tap + first[row] - centre + 0.5) * (1.0 / stretch))
            total += line[tap]
        for tap in range(count[row]):
            share = line[tap] / total * (1 << _WHOLE_BITS)
            weights[row, tap] = int(share - 0.5 if share < 0 else share + 0.5)
    return first, count, weights


@kernel
def _lanczos(x: float) -> float:
    if x < -_REACH or x >= _REACH:
        return 0.0
    if x == 0:
        return 1.0
    near, far = x * math.pi, x / _REACH * math.pi
    return math.sin(near) / near * (math.sin(far) / far)


@kernel
def _fill(pixels: Bytes, found: Bytes) -> None:
    height, width = found.shape
    for y in range(height):
        lanes.grey(pixels.reshape(-1), y * width, found[y])


@kernel
def _weigh_lines(
    lines: Bytes,
    first: npt.NDArray[np.int64],
    count: npt.NDArray[np.int64],
    weights: npt.NDArray[np.int32],
    found: Bytes,
) -> None:
    """Each row of `found` is a weighed sum of `lines`, rounded, and cut off at what 8 bits hold."""
    width = lines.shape[1]
    sums = np.empty(width, np.int32)
    for row in range(len(found)):
        sums[:] = 1 << (_WHOLE_BITS - 1)
        add_lines(lines, first[row], weights[row, : count[row]], sums)
        for x in range(width):
            found[row, x] = min(max(sums[x] >> _WHOLE_BITS, 0), 255)


@kernel
def _low_terms(small: Bytes, cosines: Doubles) -> Doubles:
    half = np.zeros((LOW, SMALL))
    for i in range(LOW):
        for y in range(SMALL):
            for x in range(SMALL):
                half[i, x] += cosines[i, y] * small[y, x]
    terms = np.zeros((LOW, LOW))
    for i in range(LOW):
        for j in range(LOW):
            for x in range(SMALL):
                terms[i, j] += half[i, x] * cosines[j, x]
    return terms


@kernel
def _fused_terms(lines: Bytes, down: Floats, across: Floats) -> Doubles:
    """`down`, turned, times `lines` times `across`."""
    half = np.empty((LOW, lines.shape[1]), np.float32)
    multiply(lines, down, half)
    terms = np.zeros((LOW, LOW))
    for x in range(len(across)):
        for i in range(LOW):
            for j in range(LOW):
                terms[i, j] += np.float64(half[i, x]) * across[x, j]
    return terms


@kernel
def _hash_of(terms: Doubles, noise: float) -> int:
    flat = terms.reshape(-1)
    ordered = np.sort(flat)
    middle = len(flat) // 2
    median = (ordered[middle - 1] + ordered[middle]) / 2
    bits = np.int64(0)
    for term in flat:
        bits = (bits << 1) | (term - median > noise)
    return bits
