"""Similarity: whether two pictures show the same, by laying one over the other.

A look is a small copy of a picture. That of the evaluation image is moved, stretched and turned
until its light fits the other's, from coarse to fine (pipeline/overlay.py). What is compared then
is the fine detail alone, place by place: hashes proposed the pair for its coarse light and dark,
which is no evidence any more, and an outline is few places. Hashes are blind to colour: that of
drawings, and of near-duplicates, is compared too.
"""

import struct

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.kernels import kernel
from pipeline.overlay import Floats, Grey, apart, blurred, fitted, laid_over, within

_SIDE = 64
"""Samples of a look's light in either direction, whatever the picture's shape."""
_COLOURS = 32
"""And of its colour: Cb, then Cr."""
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
_LIGHT_APART, _COLOUR_APART = 20.0, 14.0
"""Levels, of squares that differ: docs/decisions.md."""
_COPIES_APART, _DRAWINGS_APART = 0.01, 0.05
"""Share of the squares that differ, beyond which there are two pictures: of those that the corpus
holds, and of a drawing and what the hashes take for it."""
_GREY = 6
"""Levels of colour that a grey picture has at most."""


def _bell(deviation: float) -> Floats:
    reach = int(3 * deviation)
    # Processors differ in the last bit of an exponential, and so would what is found by it.
    weights: Floats = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2).round(12)
    return weights


_LIGHT, _EDGE, _PLACE = _bell(4.0), _bell(1.2), _bell(3.0)
"""Blurs: what is taken off to fit, what is taken off to compare, and what a place is."""


def look(image: Image.Image) -> bytes:
    """A small copy of an RGB image."""
    size = [min(side, 0xFFFF) for side in image.size]
    light = image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    small = image.convert("YCbCr").resize((_COLOURS, _COLOURS), Image.Resampling.BICUBIC)
    colours = [small.getchannel(name).tobytes() for name in ("Cb", "Cr")]
    return _SIZE.pack(*size) + light.tobytes() + b"".join(colours)


def size_of(seen: bytes) -> tuple[int, int]:
    """Width and height of the picture that a look is of."""
    width, height = _SIZE.unpack_from(seen)
    return width, height


def similarity(known: bytes, seen: bytes, starts: Floats) -> float:
    """How alike the details are where the looks of an evaluation image and of another fit best.

    `starts` are guesses of where the points of the other lie in the evaluation image: each has two
    rows of three numbers, and all of a picture is 0 to 1. From -1 to 1; not a number where there
    is too little to compare. Drawings have their shapes in common: of those whose light or colour
    differs somewhere it is 0, unless the colour has been taken from all of one.
    """
    alike, place = _laid(known, seen, starts)
    if alike <= 0 or not is_drawn(known):
        return alike
    one, other = _planes(known), _planes(seen)
    is_grey = _is_grey(one) or _is_grey(other)
    colour_apart = np.inf if is_grey else _COLOUR_APART
    differing = apart(one, other, place, _LIGHT_APART, colour_apart, _PLACE)
    return 0.0 if differing > _DRAWINGS_APART else alike


def is_copy(known: bytes, seen: bytes, starts: Floats) -> bool:
    """Whether two pictures that the hashes take for one are that in every place, in light and
    colour: one may be brighter, flatter, blurred or cropped a little, and no more."""
    _, place = _laid(known, seen, starts)
    differing = apart(_planes(known), _planes(seen), place, _LIGHT_APART, _COLOUR_APART, _PLACE)
    return differing <= _COPIES_APART


def _laid(known: bytes, seen: bytes, starts: Floats) -> tuple[float, Floats]:
    """How alike the details are where they fit best, and where that is."""
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
    return best, best_place


def is_drawn(seen: bytes) -> bool:
    """Whether the look is of line art, a logo or the like: much of it is one even colour."""
    grey = _samples(seen)
    even_across = grey[:-1, 1:] == grey[:-1, :-1]
    even_down = grey[1:, :-1] == grey[:-1, :-1]
    return bool((even_across & even_down).mean() >= _DRAWN)


def _samples(data: bytes) -> NDArray[np.uint8]:
    count = _SIDE * _SIDE
    return np.frombuffer(data, np.uint8, count, _SIZE.size).reshape(_SIDE, _SIDE)


def _planes(data: bytes) -> Grey:
    """Light, Cb and Cr, the latter two around 0 and each sample as large as four of light."""
    colours = np.frombuffer(data, np.uint8, offset=_SIZE.size + _SIDE * _SIDE)
    colours = colours.reshape(2, _COLOURS, _COLOURS)
    step = _SIDE // _COLOURS
    planes = np.empty((3, _SIDE, _SIDE), np.float32)
    planes[0] = _samples(data)
    planes[1:] = colours.repeat(step, axis=1).repeat(step, axis=2)
    planes[1:] -= 128
    return planes


def _is_grey(planes: Grey) -> bool:
    return bool(np.abs(planes[1:]).max() <= _GREY)


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
