"""Similarity: whether two pictures show the same, by laying one over the other.

A look is a small grey copy of a picture. That of the evaluation image is moved, stretched and
turned until it fits the other, from coarse to fine (pipeline/overlay.py). What is compared then is
the fine detail alone, place by place: hashes proposed the pair for its coarse light and dark, which
is no evidence any more, and an outline is few places.
"""

import struct

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.kernels import kernel
from pipeline.overlay import Floats, Grey, blurred, fitted, laid_over, within

_SIDE = 64
"""Samples of a look in either direction, whatever the picture's shape."""
_SIZE = struct.Struct("<HH")
"""In front of the samples: the picture's width and height."""
_LEVELS = (16, 32)
"""Samples of the coarser copies."""
_STEPS = (12, 8, 8)
"""Moves at each level and at the finest."""
_FOLLOWED = 2
"""Starts that are followed beyond the coarsest level."""
_LEAST_SHOWN = 0.4
"""Share of the evaluation image that the other must show."""
_LEAST_SAMPLES = 400
_LEAST_SPREAD = 0.5
"""Standard deviation of the detail, in levels of grey, below which there is none."""
_LEAST_POWER = 0.05
"""Of the detail's mean power: what a place must have in either picture to be compared."""
_LEAST_PLACES = 0.1
"""Share of the samples that are such places."""
_DRAWN = 0.3
"""Share of the samples that equal their neighbours, from which on a picture counts as drawn."""
_SQUARE = 4
_LEVELS_APART, _SQUARES_APART = 24.0, 0.05
"""Two drawings differ if more than this share of their squares is more levels of grey apart."""


def _bell(deviation: float) -> Floats:
    reach = int(3 * deviation)
    # Processors differ in the last bit of an exponential, and so would what is found by it.
    weights: Floats = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2).round(12)
    return weights


_LIGHT, _EDGE, _PLACE = _bell(4.0), _bell(1.2), _bell(3.0)
"""Blurs: what is taken off to fit, what is taken off to compare, and what a place is."""


def look(image: Image.Image) -> bytes:
    """A small grey copy of an RGB image."""
    size = [min(side, 0xFFFF) for side in image.size]
    small = image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    return _SIZE.pack(*size) + small.tobytes()


def size_of(seen: bytes) -> tuple[int, int]:
    """Width and height of the picture that a look is of."""
    width, height = _SIZE.unpack_from(seen)
    return width, height


def similarity(known: bytes, seen: bytes, starts: Floats) -> float:
    """How alike the details are where the looks of an evaluation image and of another fit best.

    `starts` are guesses of where the points of the other lie in the evaluation image: each has two
    rows of three numbers, and all of a picture is 0 to 1. From -1 to 1; not a number where there
    is too little to compare. Drawings have their shapes in common: of those whose light differs
    somewhere it is 0.
    """
    one, other = _copies(known), _copies(seen)
    found = []
    for begin in starts:
        place = _centred(begin)
        found.append((fitted(one[0], other[0], place, _STEPS[0]), place))
    found.sort(key=lambda pair: -pair[0])  # stable: of equal ones the first
    detail = one[2] - blurred(one[2], np.ones_like(one[2]), _LIGHT)
    best, best_place = np.nan, _centred(starts[0])
    for _, place in found[:_FOLLOWED]:
        fitted(one[1], other[1], place, _STEPS[1])
        for _ in range(2):
            # A border around the other is no detail of it.
            shown = within(place, _SIDE)
            seen_detail = (other[2] - blurred(other[2], shown, _LIGHT)) * shown
            fitted(detail, seen_detail, place, _STEPS[2])
        alike = _alike(one[2], other[2], place, _EDGE, _PLACE)
        if not best >= alike and not np.isnan(alike):
            best, best_place = alike, place
    if not best <= 0 and is_drawn(known) and _differ(one[2], other[2], best_place):
        return 0.0
    return best


def is_drawn(seen: bytes) -> bool:
    """Whether the look is of line art, a logo or the like: much of it is one even colour."""
    grey = _samples(seen)
    even_across = grey[:-1, 1:] == grey[:-1, :-1]
    even_down = grey[1:, :-1] == grey[:-1, :-1]
    return bool((even_across & even_down).mean() >= _DRAWN)


def _samples(data: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(data, np.uint8, offset=_SIZE.size).reshape(_SIDE, _SIDE)


def _centred(begin: Floats) -> Floats:
    """The same move with the middles of both pictures as their origins."""
    place: Floats = begin.astype(np.float64)
    place[:, 2] += place[:, :2].sum(axis=1) / 2 - 0.5
    return place


def _copies(data: bytes) -> list[Grey]:
    """The look at each level, the coarsest first."""
    finest = _samples(data).astype(np.float32)
    levels = []
    for side in _LEVELS:
        step = _SIDE // side
        levels.append(finest.reshape(side, step, side, step).mean(axis=(1, 3)))
    return [*levels, finest]


@kernel
def _alike(known: Grey, seen: Grey, place: Floats, edge: Floats, around: Floats) -> float:
    """The mean correlation of the fine detail in the places that have any."""
    side = len(seen)
    shown = within(place, side)
    count = shown.sum()
    share = count / (side * side) * abs(place[0, 0] * place[1, 1] - place[0, 1] * place[1, 0])
    if count < _LEAST_SAMPLES or share < _LEAST_SHOWN:
        return np.nan
    moved = laid_over(known, place)
    one = (moved - blurred(moved, shown, edge)) * shown
    other = (seen - blurred(seen, shown, edge)) * shown
    one_spread = np.sqrt((one * one).sum() / count)
    other_spread = np.sqrt((other * other).sum() / count)
    if min(one_spread, other_spread) < _LEAST_SPREAD:
        return np.nan
    one /= one_spread
    other /= other_spread
    one_power = blurred(one * one, shown, around)
    other_power = blurred(other * other, shown, around)
    shared = blurred(one * other, shown, around)
    total = places = 0.0
    for j in range(side):
        for i in range(side):
            power = max(one_power[j, i], other_power[j, i])
            if shown[j, i] > 0 and power > _LEAST_POWER:
                total += shared[j, i] / np.sqrt(one_power[j, i] * other_power[j, i] + 1e-3)
                places += 1
    if places < _LEAST_PLACES * count:
        return np.nan
    return float(total / places)


@kernel
def _differ(known: Grey, seen: Grey, place: Floats) -> bool:
    """Whether their light does, in more squares than an edge or two."""
    side = len(seen)
    shown, moved = within(place, side), laid_over(known, place)
    squares = apart = 0
    for top in range(0, side, _SQUARE):
        for left in range(0, side, _SQUARE):
            count = difference = 0.0
            for y in range(top, top + _SQUARE):
                for x in range(left, left + _SQUARE):
                    count += shown[y, x]
                    difference += shown[y, x] * (moved[y, x] - seen[y, x])
            if 2 * count >= _SQUARE * _SQUARE:
                squares += 1
                if abs(difference) > _LEVELS_APART * count:
                    apart += 1
    return apart > _SQUARES_APART * squares
