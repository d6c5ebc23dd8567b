"""Overlay: one grey picture is moved over another until it fits, by loops that are compiled.

A place is where the points of one picture lie in the other: two rows of three numbers, with the
middles of both as origins and their sides as units. Lucas and Kanade's method (1981), with gain and
offset of the light as further unknowns.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels import kernel

Grey = NDArray[np.float32]
Floats = NDArray[np.float64]

_UNKNOWNS = 8
"""Six of the place, gain, offset."""
_SQUARE = 4
"""Samples of a square in either direction."""
_LEAST_GAIN, _MOST_GAIN = 0.6, 1.7
"""Of the light: beyond, it is no brighter or flatter copy."""


@kernel
def fitted(known: Grey, seen: Grey, place: Floats, steps: int) -> float:
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
def within(place: Floats, side: int) -> Grey:
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
def blurred(grey: Grey, shown: Grey, weights: Floats) -> Grey:
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
def _correlation(known: Grey, seen: Grey, place: Floats) -> float:
    """Of the samples that both show."""
    side = len(seen)
    moved = laid_over(known, place)
    shown = within(place, side)
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
def laid_over(known: Grey, place: Floats) -> Grey:
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
def apart(
    known: Grey, seen: Grey, place: Floats, light: float, colour: float, weights: Floats
) -> float:
    """The share of the squares both show where light, or colour, is more levels apart than that.

    Both have three planes: light, Cb and Cr, the latter two around 0. Gain and offset of the light
    are no difference, nor is colour that has the same gain; but no picture is another's negative.
    Colour is blurred by the weights: files hold less of its detail than of the light's.
    """
    side = len(seen[0])
    shown = within(place, side)
    moved = laid_over(known[0], place)
    gain, offset = _gain(moved, seen[0], shown)
    if not _LEAST_GAIN <= gain <= _MOST_GAIN:
        return 1.0
    difference = np.empty_like(seen)
    difference[0] = gain * moved + offset - seen[0]
    for plane in range(1, len(seen)):
        colours_apart = gain * laid_over(known[plane], place) - seen[plane]
        difference[plane] = blurred(colours_apart.astype(np.float32), shown, weights)
    squares = different = 0
    for top in range(0, side, _SQUARE):
        for left in range(0, side, _SQUARE):
            count = by_light = by_blue = by_red = 0.0
            for y in range(top, top + _SQUARE):
                for x in range(left, left + _SQUARE):
                    if shown[y, x] > 0:
                        count += 1
                        by_light += difference[0, y, x]
                        by_blue += difference[1, y, x]
                        by_red += difference[2, y, x]
            if 2 * count >= _SQUARE * _SQUARE:
                squares += 1
                by_colour = max(abs(by_blue), abs(by_red))
                if abs(by_light) > light * count or by_colour > colour * count:
                    different += 1
    return different / squares if squares else 1.0


@kernel
def _gain(known: Grey, seen: Grey, shown: Grey) -> tuple[float, float]:
    """Gain and offset that bring one light nearest to the other, by least squares."""
    count = max(float(shown.sum()), 1.0)
    known_mean, seen_mean = (known * shown).sum() / count, (seen * shown).sum() / count
    from_mean = (known - known_mean) * shown
    spread = (from_mean * from_mean).sum()
    if spread < 1e-6:
        return 1.0, seen_mean - known_mean
    gain = (from_mean * (seen - seen_mean)).sum() / spread
    return gain, seen_mean - gain * known_mean
