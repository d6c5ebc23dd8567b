"""Hamming: every known hash within so many bits of a query, without comparing with all of them.

Multi-index hashing (Norouzi, Punjani, Fleet, CVPR 2012). The bits are cut into bands, each with a
radius of its own, and the radii with one for each band sum up to more than the radius asked for:
two hashes that differ by more than its radius in every band differ by more than that in all. So
every hash within reach is within its radius in a band, where a table has all that begin so.
"""

from collections.abc import Iterator
from math import comb
from typing import NamedTuple

import numpy as np

from pipeline.kernels import Bytes
from pipeline.probes import Ints, Longs, Words, compare, fill, probe

Found = tuple[Longs, Longs, Longs]
"""Query, hash and distance, by query and then by hash."""

_WIDEST = 26
"""Bits of a band, at most: its table has an entry of 4 bytes for each of its values."""
_FOUND = 1 << 20
"""Found in one part, unless one query alone finds more."""
_HELD = 4096
"""Hashes whose memory is on its way before the first of them is compared."""


class Band(NamedTuple):
    """Neighbouring bits, and how many of them may differ."""

    first: int
    width: int
    radius: int


class _Tables(NamedTuple):
    """What the bands know: for each, where it begins in the arrays that all of them share."""

    bands: Longs
    """Rows of first, width, radius, and where its own begin in starts, bits and flips, and end."""
    starts: Ints
    """Where the hashes of each value begin in `order`, and one more."""
    bits: Words
    """Which values there are: one bit each."""
    flips: Ints
    """Words of `bits` that hold values within the radius, as the bits that lead to them."""
    left: Longs
    """How many more bits may differ there."""
    order: Ints
    """The hashes by value, a band behind the other."""
    near: Words
    """The hashes in that order, where they are of 64 bits."""
    masks: Words
    """The bits of each band."""


def bands(bits: int, radius: int, count: int) -> list[Band]:
    """The bands that find what is near in least time; none where comparing with all takes less.

    Nanoseconds, measured: a band 20, a word of values 1, a value that is there 4, a hash looked
    at 3 or 8, one compared without a table 0.5 for each of its words.
    """
    words = -(-bits // 64)
    best, least = list[Band](), 0.5 * words * count
    for number in range(1, min(radius + 1, bits) + 1):
        chosen = _even(bits, radius, number, count)
        if sum(_ball(max(0, band.width - 6), band.radius) for band in chosen) > 1 << 20:
            continue
        cost = 20.0 * number
        for band in chosen:
            values = _ball(band.width, band.radius)
            share = count / 2**band.width
            cost += _ball(max(0, band.width - 6), band.radius)
            cost += values * min(1.0, share) * 4 + values * share * (3 if words == 1 else 8)
        if cost < least:
            best, least = chosen, cost
    return best


def _even(bits: int, radius: int, number: int, count: int) -> list[Band]:
    """So many bands as equal as can be. Where there are few hashes, a band leaves bits out."""
    widest = min(_WIDEST, max(6, count.bit_length() + 2))
    found, first = [], 0
    for place in range(number):
        width = bits // number + (place < bits % number)
        reach = (radius + 1) // number + (place < (radius + 1) % number) - 1
        found.append(Band(first, min(width, widest), min(reach, width, widest)))
        first += width
    return found


def _ball(bits: int, radius: int) -> int:
    """How many values of so many bits are within the radius of one."""
    return sum(comb(bits, ones) for ones in range(min(bits, radius) + 1))


class HammingIndex:
    """Exact search of hashes within a Hamming radius, in one thread.

    `hashes` are of 64 bits, or rows of 32 bytes. Equal ones are kept once and all found.
    """

    def __init__(self, hashes: Words | Bytes, radius: int) -> None:
        if radius < 0:
            raise ValueError(f"a radius of {radius} bits: 0 is the least")
        self._radius = radius
        words = _as_words(hashes)
        order = np.argsort(words[:, 0], kind="stable")
        if words.shape[1] > 1:
            order = np.lexsort(words.T[::-1])
        words = words[order]
        is_first = np.ones(len(words), np.bool_)
        is_first[1:] = (words[1:] != words[:-1]).any(axis=1)
        self._hashes = np.ascontiguousarray(words[is_first]).reshape(-1)
        # Equal hashes are sorted, so that what is found of one is in the order of the places.
        self._copies = order.astype(np.int32)
        bounds = np.append(np.flatnonzero(is_first), len(words))
        self._bounds = bounds.astype(np.int32)
        self._width, self._size = words.shape[1], len(words)
        count = len(bounds) - 1
        self.bands = bands(64 * self._width, radius, count)
        """Empty where it compares with all."""
        self._tables = _tables(self._hashes.reshape(count, self._width), self.bands)
        most = max((_ball(band.width, band.radius) for band in self.bands), default=1)
        self._values = np.empty((2, most + 64), np.int64)

    @property
    def size_bytes(self) -> int:
        """Of all arrays."""
        arrays = (*self._tables, self._hashes, self._copies, self._bounds, self._values)
        return sum(array.nbytes for array in arrays)

    def search(self, queries: Words | Bytes) -> Found:
        """Every (query, hash, distance) with distance <= radius, by query, then by hash."""
        nothing = np.zeros(0, np.int64)
        found = [*self.parts(queries), (nothing, nothing, nothing)]
        query, hashed, distance = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return query, hashed, distance

    def parts(self, queries: Words | Bytes) -> Iterator[Found]:
        """The same, some at a time: so much memory is enough however many there are."""
        words = _as_words(queries).reshape(-1)
        count, done, room = len(words) // self._width, 0, _FOUND
        held = np.empty(_HELD, np.int32)
        found = tuple(np.empty(room, kind) for kind in (np.int64, np.int64, np.int64))
        while done < count and self._size:
            before = done
            query, hashed, distance = found
            arrays = self._hashes, self._copies, self._bounds
            if self.bands:
                done, number = probe(
                    words, done, *arrays, *self._tables, self._width, self._radius,
                    self._values, held, query, hashed, distance,
                )  # fmt: skip
            else:
                done, number = compare(
                    words, done, *arrays, self._width, self._radius, query, hashed, distance
                )
            if done == before:
                room = min(max(2 * room, 1), max(self._size, _FOUND + 1))
                found = tuple(np.empty(room, np.int64) for _ in found)
            elif number:
                order = np.argsort(query[:number] * self._size + hashed[:number])
                yield query[order], hashed[order], distance[order]


def _as_words(hashes: Words | Bytes) -> Words:
    """Rows of 64-bit words."""
    array = np.ascontiguousarray(hashes)
    if array.ndim == 2 and array.dtype == np.uint8 and array.shape[1] == 32:
        return array.view(np.uint64)
    if array.ndim == 1 and array.dtype == np.uint64:
        return array.reshape(-1, 1)
    raise ValueError(f"hashes of {array.dtype} {array.shape}: take uint64 (N,) or uint8 (N, 32)")


def _tables(hashes: Words, chosen: list[Band]) -> _Tables:
    count, width = hashes.shape
    rows, starts, bits, flips, left, order, near, masks = [], [], [], [], [], [], [], []
    at = np.zeros(3, np.int64)
    for band in chosen:
        here = np.empty((1 << band.width) + 1, np.int32)
        there = np.zeros(max(1, 1 << band.width >> 6), np.uint64)
        placed = np.empty(count, np.int32)
        beside = np.empty(count if width == 1 else 0, np.uint64)
        fill(hashes.reshape(-1), width, band.first, band.width, here, there, placed, beside)
        away, more = _flips(band)
        rows.append([*band, *at, at[2] + len(away)])
        at += len(here), len(there), len(away)
        for whole, part in (
            (starts, here), (bits, there), (flips, away), (left, more), (order, placed),
            (near, beside),
        ):  # fmt: skip
            whole.append(part)
        mask = ((1 << band.width) - 1) << band.first
        masks.append([mask >> 64 * word & (1 << 64) - 1 for word in range(width)])
    return _Tables(
        np.array(rows, np.int64).reshape(-1, 7),
        np.concatenate([*starts, np.zeros(0, np.int32)]),
        np.concatenate([*bits, np.zeros(0, np.uint64)]),
        np.concatenate([*flips, np.zeros(0, np.int32)]),
        np.concatenate([*left, np.zeros(0, np.int64)]),
        np.concatenate([*order, np.zeros(0, np.int32)]),
        np.concatenate([*near, np.zeros(0, np.uint64)]),
        np.array(masks, np.uint64).reshape(-1, width),
    )


def _flips(band: Band) -> tuple[Ints, Longs]:
    """A word holds the 64 values that differ in the lowest bits: those above lead to it."""
    high = max(0, band.width - 6)
    ring, flips = np.zeros(1, np.int64), [np.zeros(1, np.int64)]
    for _ in range(min(band.radius, high)):
        # Each with one more bit, above its highest: none comes twice.
        further = ring[:, None] | (1 << np.arange(high))[None, :]
        ring = further[(ring[:, None] >> np.arange(high)[None, :]) == 0]
        flips.append(ring)
    away = [np.full(len(ring), band.radius - bits) for bits, ring in enumerate(flips)]
    return np.concatenate(flips).astype(np.int32), np.concatenate(away).astype(np.int64)
