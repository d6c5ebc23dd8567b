"""Similarity: whether two pictures show the same, by laying one over the other.

A look is a small grey copy of a picture. That of the evaluation image is moved, stretched and
turned until it fits the other, from coarse to fine (Lucas and Kanade, 1981; with gain and offset of
the light). What is compared then is the fine detail alone, place by place: hashes proposed the pair
for its coarse light and dark, which is no evidence any more, and an outline is few places.
"""

import struct

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.kernels import kernel

Grey = NDArray[np.float32]
Floats = NDArray[np.float64]

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
_UNKNOWNS = 8


def _bell(deviation: float) -> Floats:
    reach = int(3 * deviation)
    weights: Floats = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
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
        found.append((_fitted(one[0], other[0], place, _STEPS[0]), place))
    found.sort(key=lambda pair: -pair[0])  # stable: of equal ones the first
    detail = one[2] - _blurred(one[2], np.ones_like(one[2]), _LIGHT)
    best, best_place = np.nan, found[0][1]
    for _, place in found[:_FOLLOWED]:
        _fitted(one[1], other[1], place, _STEPS[1])
        for _ in range(2):
            # A border around the other is no detail of it.
            shown = _shown(place, _SIDE)
            seen_detail = (other[2] - _blurred(other[2], shown, _LIGHT)) * shown
            _fitted(detail, seen_detail, place, _STEPS[2])
        alike = _alike(one[2], other[2], place, _EDGE, _PLACE)
        if not best >= alike and not np.isnan(alike):
            best, best_place = alike, place
    if best > 0 and is_drawn(known) and _differ(one[2], other[2], best_place):
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
def _shown(place: Floats, side: int) -> Grey:
    """1 where a sample lies in the evaluation image, 0 in a border around it."""
    shown = np.zeros((side, side), np.float32)
    for j in range(side):
        y = (j + 0.5) / side - 0.5
        for i in range(side):
            x = (i + 0.5) / side - 0.5
            u = abs(place[0, 0] * x + place[0, 1] * y + place[0, 2])
            v = abs(place[1, 0] * x + place[1, 1] * y + place[1, 2])
            if max(u, v) <= 0.5 - 0.5 / side:
                shown[j, i] = 1.0
    return shown


@kernel
def _blurred(grey: Grey, shown: Grey, weights: Floats) -> Grey:
    """The weighted mean around each sample of those that are shown."""
    side, reach = len(grey), len(weights) // 2
    across = np.zeros((2, side, side), np.float64)
    for y in range(side):
        for x in range(side):
            for k in range(max(-reach, -x), min(reach, side - 1 - x) + 1):
                weight = weights[k + reach] * shown[y, x + k]
                across[0, y, x] += weight * grey[y, x + k]
                across[1, y, x] += weight
    means = np.zeros((side, side), np.float32)
    for y in range(side):
        for x in range(side):
            total = parts = 0.0
            for k in range(max(-reach, -y), min(reach, side - 1 - y) + 1):
                total += weights[k + reach] * across[0, y + k, x]
                parts += weights[k + reach] * across[1, y + k, x]
            if parts > 0:
                means[y, x] = total / parts
    return means


@kernel
def _fitted(known: Grey, seen: Grey, place: Floats, steps: int) -> float:
    """Move `place` until `known` there is `seen`; their correlation at last."""
    side = len(seen)
    row = np.empty(_UNKNOWNS, np.float64)
    for _ in range(steps):
        products = np.zeros((_UNKNOWNS, _UNKNOWNS + 1), np.float64)
        count = 0
        for j in range(side):
            y = (j + 0.5) / side - 0.5
            for i in range(side):
                x = (i + 0.5) / side - 0.5
                u = (place[0, 0] * x + place[0, 1] * y + place[0, 2] + 0.5) * side - 0.5
                v = (place[1, 0] * x + place[1, 1] * y + place[1, 2] + 0.5) * side - 0.5
                if u < 0 or v < 0 or u >= side - 1 or v >= side - 1:
                    continue
                a, b = int(u), int(v)
                p, q = u - a, v - b
                nw, ne = known[b, a], known[b, a + 1]
                sw, se = known[b + 1, a], known[b + 1, a + 1]
                value = (nw * (1 - p) + ne * p) * (1 - q) + (sw * (1 - p) + se * p) * q
                across = ((ne - nw) * (1 - q) + (se - sw) * q) * side
                down = ((sw - nw) * (1 - p) + (se - ne) * p) * side
                row[0], row[1], row[2] = across * x, across * y, across
                row[3], row[4], row[5] = down * x, down * y, down
                row[6], row[7] = value, 1.0
                for k in range(_UNKNOWNS):
                    for m in range(k, _UNKNOWNS):
                        products[k, m] += row[k] * row[m]
                    products[k, _UNKNOWNS] += row[k] * seen[j, i]
                count += 1
        if count < side * side // 8:
            return -1.0
        for k in range(_UNKNOWNS):
            for m in range(k):
                products[k, m] = products[m, k]
            products[k, k] += 1e-3 * products[k, k] + 1e-6
        if not _solved(products):
            return -1.0
        gain = products[6, _UNKNOWNS]
        if gain <= 0.05:
            return -1.0
        moved = 0.0
        for k in range(6):
            step = products[k, _UNKNOWNS] / gain
            step = min(max(step, -0.1), 0.1)
            place[k // 3, k % 3] += step
            moved = max(moved, abs(step))
        size = abs(place[0, 0] * place[1, 1] - place[0, 1] * place[1, 0])
        if not 0.1 < size < 8.0:
            return -1.0
        if moved < 1e-4:
            break
    return _correlation(known, seen, place)


@kernel
def _solved(rows: Floats) -> bool:
    """Gauss's elimination in place; the unknowns end in the last column."""
    size = len(rows)
    for k in range(size):
        pivot = k
        for m in range(k + 1, size):
            if abs(rows[m, k]) > abs(rows[pivot, k]):
                pivot = m
        if abs(rows[pivot, k]) < 1e-12:
            return False
        for n in range(size + 1):
            rows[k, n], rows[pivot, n] = rows[pivot, n], rows[k, n]
        for m in range(size):
            if m != k:
                share = rows[m, k] / rows[k, k]
                for n in range(k, size + 1):
                    rows[m, n] -= share * rows[k, n]
    for k in range(size):
        rows[k, size] /= rows[k, k]
    return True


@kernel
def _correlation(known: Grey, seen: Grey, place: Floats) -> float:
    """Of the samples that both show."""
    side = len(seen)
    moved = _moved(known, place)
    shown = _shown(place, side)
    count = a1 = a2 = b1 = b2 = ab = 0.0
    for j in range(side):
        for i in range(side):
            if shown[j, i] > 0:
                a, b = float(moved[j, i]), float(seen[j, i])
                a1, a2, b1, b2, ab = a1 + a, a2 + a * a, b1 + b, b2 + b * b, ab + a * b
                count += 1
    spread = (a2 * count - a1 * a1) * (b2 * count - b1 * b1)
    if count == 0 or spread <= 1e-9:
        return -1.0
    return float((ab * count - a1 * b1) / np.sqrt(spread))


@kernel
def _moved(known: Grey, place: Floats) -> Grey:
    """`known` as the other picture shows it; beyond its edges, its edges."""
    side = len(known)
    moved = np.empty((side, side), np.float32)
    for j in range(side):
        y = (j + 0.5) / side - 0.5
        for i in range(side):
            x = (i + 0.5) / side - 0.5
            u = (place[0, 0] * x + place[0, 1] * y + place[0, 2] + 0.5) * side - 0.5
            v = (place[1, 0] * x + place[1, 1] * y + place[1, 2] + 0.5) * side - 0.5
            u, v = min(max(u, 0.0), side - 1.0), min(max(v, 0.0), side - 1.0)
            left, top = min(int(u), side - 2), min(int(v), side - 2)
            p, q = u - left, v - top
            above = known[top, left] * (1 - p) + known[top, left + 1] * p
            below = known[top + 1, left] * (1 - p) + known[top + 1, left + 1] * p
            moved[j, i] = above * (1 - q) + below * q
    return moved


@kernel
def _alike(known: Grey, seen: Grey, place: Floats, edge: Floats, around: Floats) -> float:
    """The mean correlation of the fine detail in the places that have any."""
    side = len(seen)
    shown = _shown(place, side)
    count = shown.sum()
    share = count / (side * side) * abs(place[0, 0] * place[1, 1] - place[0, 1] * place[1, 0])
    if count < _LEAST_SAMPLES or share < _LEAST_SHOWN:
        return np.nan
    moved = _moved(known, place)
    one = (moved - _blurred(moved, shown, edge)) * shown
    other = (seen - _blurred(seen, shown, edge)) * shown
    one_spread = np.sqrt((one * one).sum() / count)
    other_spread = np.sqrt((other * other).sum() / count)
    if min(one_spread, other_spread) < _LEAST_SPREAD:
        return np.nan
    one /= one_spread
    other /= other_spread
    one_power = _blurred(one * one, shown, around)
    other_power = _blurred(other * other, shown, around)
    shared = _blurred(one * other, shown, around)
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
    shown, moved = _shown(place, side), _moved(known, place)
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
