"""Probes: the loops that look near hashes up in tables, or compare with all of them.

What the tables are, `pipeline.hamming` says; hashes are of one 64-bit word or of four.
"""

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from pipeline.kernels import inlined, kernel, low_zeros, prefetch

Words = NDArray[np.uint64]
Longs = NDArray[np.int64]
Ints = NDArray[np.int32]

_BLOCK = 256
"""Hashes that are counted, and looked at one by one only where one of them is near."""


def _ones(_: Any, __: Any) -> Any:
    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


ones: Any = intrinsic(_ones)
"""`ones(word)`: how many of 64 bits are 1."""


def _balls() -> Words:
    """The values of six bits within a radius of one: by radius and value, a bit for each."""
    values = np.arange(64)
    apart = np.bitwise_count(values[:, None] ^ values[None, :])
    is_near = apart[None] <= np.arange(7)[:, None, None]
    return np.packbits(is_near, axis=-1, bitorder="little").view(np.uint64).reshape(7, 64)


_BALLS = _balls()


@inlined
def value_of(words: Words, at: int, first: int, width: int) -> int:
    """So many bits of the hash whose words begin at `at`."""
    word, shift = at + (first >> 6), np.uint64(first & 63)
    value = words[word] >> shift
    if (first & 63) + width > 64:
        value |= words[word + 1] << (np.uint64(64) - shift)
    return np.int64(value & ((np.uint64(1) << np.uint64(width)) - np.uint64(1)))


@kernel
def fill(
    hashes: Words, width: int, first: int, bits: int,
    starts: Ints, there: Words, order: Ints, near: Words,
) -> None:  # fmt: skip
    """Sort the hashes by the band's value, counting."""
    count = len(hashes) // width
    starts[:] = 0
    for row in range(count):
        starts[value_of(hashes, row * width, first, bits) + 1] += 1
    for value in range(len(starts) - 1):
        if starts[value + 1]:
            there[value >> 6] |= np.uint64(1) << np.uint64(value & 63)
        starts[value + 1] += starts[value]
    for row in range(count - 1, -1, -1):
        # Backwards from the end of each value: what is left there is where it begins.
        value = value_of(hashes, row * width, first, bits)
        starts[value + 1] -= 1
        order[starts[value + 1]] = row
    for value in range(len(starts) - 1):
        starts[value] = starts[value + 1]
    starts[len(starts) - 1] = count
    if len(near):
        for place in range(count):
            near[place] = hashes[order[place]]


@inlined
def _apart(one: Words, at: int, other: Words, there: int, width: int, radius: int) -> int:
    """How many bits differ; some number above the radius where those are more."""
    bits = np.int64(ones(one[at] ^ other[there]))
    if width == 4:
        bits += np.int64(ones(one[at + 1] ^ other[there + 1]))
        if bits <= radius:
            bits += np.int64(ones(one[at + 2] ^ other[there + 2]))
            bits += np.int64(ones(one[at + 3] ^ other[there + 3]))
    return bits


@inlined
def _is_new(
    queries: Words, at: int, hashes: Words, there: int, width: int,
    masks: Words, bands: Longs, band: int,
) -> bool:  # fmt: skip
    """Whether no earlier band has found the hash."""
    for earlier in range(band):
        bits = np.int64(0)
        for word in range(width):
            apart = queries[at + word] ^ hashes[there + word]
            bits += np.int64(ones(apart & masks[earlier, word]))
        if bits <= bands[earlier, 2]:
            return False
    return True


@kernel
def probe(
    queries: Words, first: int, hashes: Words, copies: Ints, bounds: Ints,
    bands: Longs, starts: Ints, bits: Words, flips: Ints, left: Longs, order: Ints, near: Words,
    masks: Words, width: int, radius: int, values: Longs, held: Ints,
    query: Longs, hashed: Longs, distance: Longs,
) -> tuple[int, int]:  # fmt: skip
    """Search from the query `first` on. Returns the query behind the last one for whose finds there
    was room, and how many were found."""
    count, size, found = len(queries) // width, len(bounds) - 1, 0
    for row in range(first, count):
        before, at = found, row * width
        for band in range(len(bands)):
            value = value_of(queries, at, bands[band, 0], bands[band, 1])
            high, low = value >> 6, value & 63
            number = 0
            for flip in range(bands[band, 5], bands[band, 6]):
                word = high ^ np.int64(flips[flip])
                ball = _BALLS[min(left[flip], 6), low]
                hit = bits[bands[band, 4] + word] & ball
                while hit:
                    place = bands[band, 3] + (word << 6) + np.int64(low_zeros(hit))
                    # Its memory comes while the others are looked for.
                    prefetch(starts, place)
                    values[0, number] = place
                    number += 1
                    hit &= hit - np.uint64(1)
            base = band * size
            for nth in range(number):
                place = values[0, nth]
                values[0, nth], values[1, nth] = base + starts[place], base + starts[place + 1]
                if width == 1:
                    prefetch(near, values[0, nth])
                else:
                    prefetch(order, values[0, nth])
            nth, place = 0, values[0, 0]
            while nth < number:
                if width == 1:
                    while place < values[1, nth]:
                        apart = np.int64(ones(queries[at] ^ near[place]))
                        if apart <= radius and _is_new(
                            queries, at, near, place, 1, masks, bands, band
                        ):
                            one = np.int64(order[place])
                            more = bounds[one + 1] - bounds[one]
                            if found + more > len(query):
                                return row, before
                            for copy in range(bounds[one], bounds[one + 1]):
                                query[found], hashed[found] = row, copies[copy]
                                distance[found] = apart
                                found += 1
                        place += 1
                    nth += 1
                    place = values[0, nth]
                    continue
                holding = 0
                while nth < number and holding < len(held):
                    if place == values[1, nth]:
                        nth += 1
                        place = values[0, nth]
                        continue
                    held[holding] = order[place]
                    prefetch(hashes, np.int64(order[place]) * width)
                    holding += 1
                    place += 1
                for held_at in range(holding):
                    one = np.int64(held[held_at])
                    apart = _apart(queries, at, hashes, one * width, width, radius)
                    if apart <= radius and _is_new(
                        queries, at, hashes, one * width, width, masks, bands, band
                    ):
                        more = bounds[one + 1] - bounds[one]
                        if found + more > len(query):
                            return row, before
                        for copy in range(bounds[one], bounds[one + 1]):
                            query[found], hashed[found] = row, copies[copy]
                            distance[found] = apart
                            found += 1
    return count, found


@kernel
def compare(
    queries: Words, first: int, hashes: Words, copies: Ints, bounds: Ints,
    width: int, radius: int, query: Longs, hashed: Longs, distance: Longs,
) -> tuple[int, int]:  # fmt: skip
    """The same, of every hash."""
    count, size, found = len(queries) // width, len(bounds) - 1, 0
    for row in range(first, count):
        before, at = found, row * width
        for begin in range(0, size, _BLOCK):
            end = min(begin + _BLOCK, size)
            is_near = 0
            if width == 1:
                for one in range(begin, end):
                    is_near += np.int64(ones(queries[at] ^ hashes[one])) <= radius
            else:
                for one in range(begin, end):
                    apart = np.int64(0)
                    for word in range(4):
                        apart += np.int64(ones(queries[at + word] ^ hashes[4 * one + word]))
                    is_near += apart <= radius
            if is_near == 0:
                continue
            for one in range(begin, end):
                apart = np.int64(0)
                for word in range(width):
                    apart += np.int64(ones(queries[at + word] ^ hashes[width * one + word]))
                if apart > radius:
                    continue
                if found + bounds[one + 1] - bounds[one] > len(query):
                    return row, before
                for copy in range(bounds[one], bounds[one + 1]):
                    query[found], hashed[found], distance[found] = row, copies[copy], apart
                    found += 1
    return count, found
