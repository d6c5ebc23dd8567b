"""Order: the place of every pair in the order of every query, as compiled loops.

A pair's priority for a query is a 64-bit hash of the lower half of its pair_id, one to one for
each query and seed. Should two pairs agree in that half, the upper halves decide. The order is thus
fixed by pair, query and seed, without ties, however the pairs are cut into parts.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.kernels import GOLDEN, Bytes, kernel

Ints = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

EVERY = 2**64 - 1
"""A cut that leaves nothing out."""


class Cut(NamedTuple):
    """The last pair that each query takes down its order: priority, and upper half of its name."""

    priority: Words
    name: Words


class Claims(NamedTuple):
    """The queries that may keep each pair: those of pair i are values[begins[i]:begins[i + 1]]."""

    upper: Words
    lower: Words
    """Halves of each pair_id."""
    begins: Longs
    values: Ints


@kernel
def _mixed(value: int) -> int:
    """A one-to-one hash of 64 bits (Stafford's variant 13, as in splitmix64)."""
    word = np.uint64(value)
    word = (word ^ word >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ word >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return word ^ word >> np.uint64(31)


@kernel
def priority(lower: int, query: int, seed: int) -> int:
    """The place of a pair in the order of `query`; -1 is the order of the download."""
    salt = _mixed(np.uint64(seed) * np.uint64(GOLDEN) + np.uint64(query + 1))
    return _mixed(np.uint64(lower) ^ salt)


@kernel
def halves(text: Bytes, bounds: Longs, upper: Words, lower: Words) -> int:
    """Read names of 32 hexadecimal digits; the first row that is none, or -1."""
    for row in range(len(bounds) - 1):
        if bounds[row + 1] - bounds[row] != 32:
            return row
        for half in range(2):
            value = np.uint64(0)
            for place in range(16):
                byte = text[bounds[row] + 16 * half + place]
                if 48 <= byte <= 57:
                    digit = np.uint64(byte - 48)
                elif 97 <= byte <= 102:
                    digit = np.uint64(byte - 87)
                else:
                    return row
                value = value << np.uint64(4) | digit
            if half:
                lower[row] = value
            else:
                upper[row] = value
    return -1


@kernel
def rarest(begins: Longs, values: Ints, sizes: Longs, kept_begins: Longs, kept: Ints) -> None:
    """Leave each pair only the rarest of its queries; of equally rare ones the first."""
    at = 0
    for row in range(len(begins) - 1):
        kept_begins[row] = at
        best = np.int32(-1)
        for place in range(begins[row], begins[row + 1]):
            query = values[place]
            if best < 0 or sizes[query] < sizes[best]:
                best = query
        if best >= 0:
            kept[at] = best
            at += 1
    kept_begins[len(begins) - 1] = at


@kernel
def near(
    upper: Words,
    lower: Words,
    begins: Longs,
    values: Ints,
    bounds: Words,
    seed: int,
    query_ids: Ints,
    priorities: Words,
    names: Words,
) -> int:
    """Collect each claim whose priority is below its query's bound; how many there are."""
    found = 0
    for row in range(len(lower)):
        for place in range(begins[row], begins[row + 1]):
            query = values[place]
            bound = bounds[query]
            if bound:
                value = np.uint64(priority(lower[row], query, seed))
                query_ids[found] = query
                priorities[found] = value
                names[found] = upper[row]
                found += value <= bound
    return found


@kernel
def within(
    upper: Words,
    lower: Words,
    begins: Longs,
    values: Ints,
    last_priority: Words,
    last_name: Words,
    seed: int,
    kept_begins: Longs,
    kept: Ints,
) -> None:
    """Collect each claim that is not behind its query's cut."""
    at = 0
    for row in range(len(lower)):
        kept_begins[row] = at
        for place in range(begins[row], begins[row + 1]):
            query = values[place]
            last = last_priority[query]
            if last == np.uint64(EVERY):
                is_within = True
            else:
                value = np.uint64(priority(lower[row], query, seed))
                is_within = value < last or (value == last and upper[row] <= last_name[query])
            kept[at] = query
            at += is_within
    kept_begins[len(lower)] = at


@kernel
def positions(lower: Words, seed: int, out: Words) -> None:
    """The place of each pair in the order of the download."""
    for row in range(len(lower)):
        out[row] = priority(lower[row], -1, seed)
