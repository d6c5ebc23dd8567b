"""Trie: the compiled loops that build a trie of words and walk captions through it.

A node is a sequence of words that some query begins with. The nodes of one word have the word's
number; deeper ones are the values of one open-addressing table, whose keys are a node and the
number of the word that follows. Both are exact, so that no two sequences are ever taken for one.
"""

import numpy as np

from pipeline.kernels import GOLDEN, LANES, Bytes, inlined, kernel, low_zeros, prefetch, rank
from pipeline.match.words import NUMBER, SLOT, Ints, Longs, Words, cut, enter

FILTER_BITS = 23
"""Of the filter that is asked before the table: 1 MiB, which stays in a core's cache."""
_TOGETHER = 16
"""Captions whose searches of the table wait for memory together."""
_FEW = 128
"""Matches that are sorted by comparing all; more are sorted by a bitmap of all queries."""


@inlined
def _slot(table: Words, key: int) -> int:
    return np.int64((np.uint64(key) * np.uint64(GOLDEN)) >> np.uint64(32)) & (len(table) // 2 - 1)


@inlined
def _edge(table: Words, key: int) -> tuple[int, int]:
    """The value of a key, 0 where it is not there; and its place, or that where it would stand."""
    mask = len(table) // 2 - 1
    slot = _slot(table, key)
    while True:
        value = table[2 * slot + 1]
        if value == 0 or table[2 * slot] == np.uint64(key):
            return value, 2 * slot
        slot = (slot + 1) & mask


@kernel
def grow(
    numbers: Ints, begins: Longs, words: int, table: Words, keys: Words, infos: Ints
) -> tuple[int, int]:
    """Make a node of every beginning of every query: how many nodes there are, and the first query
    that another one equals, or -1.

    Query i is `numbers[begins[i]:begins[i + 1]]`, of so many words. A node's info is its query and
    1, shifted by one bit, which says that longer queries begin so. `keys` get each deeper node's
    key, in the order of their numbers.
    """
    nodes = words
    for query in range(len(begins) - 1):
        node = np.int64(0)
        for place in range(begins[query], begins[query + 1]):
            if node == 0:
                node = np.int64(numbers[place])
                continue
            infos[node] |= 1
            key = node << 32 | np.int64(numbers[place])
            value, slot = _edge(table, key)
            if value == 0:
                keys[nodes - words] = key
                nodes += 1
                table[slot] = np.uint64(key)
                table[slot + 1] = np.uint64(nodes)
                value = np.uint64(nodes)
            node = np.int64(value)
        if node:
            if infos[node] >> 1:
                return nodes, query
            infos[node] |= (query + 1) << 1
    return nodes, -1


@kernel
def lay(keys: Words, infos: Ints, words: int, table: Words, passes: Words) -> None:
    """Fill the table that is searched, info and node for each key, and its filter."""
    for place in range(len(keys)):
        _, slot = _edge(table, keys[place])
        node = words + place + 1
        table[slot] = keys[place]
        table[slot + 1] = np.uint64(infos[node]) << np.uint64(32) | np.uint64(node)
        bit = _bit(keys[place])
        passes[bit >> np.uint64(6)] |= np.uint64(1) << (bit & np.uint64(63))


def fits(
    heads: Words, ends: Ints, letters: Bytes, table: Words, passes: Words, queries: int
) -> bool:
    """Whether `search` comes to an end with these arrays and reads nothing outside of them."""
    words = len(ends) - 1
    slots = [len(heads) // SLOT, len(table) // 2]
    has_right_lengths = (
        words >= 0
        and len(passes) == 1 << FILTER_BITS - 6
        and all(slot and slot & slot - 1 == 0 for slot in slots)
        and [len(heads), len(table)] == [SLOT * slots[0], 2 * slots[1]]
    )
    if not has_right_lengths:
        return False
    entries, values = heads[SLOT - 1 :: SLOT], table[1::2]
    numbers = np.sort(entries[entries != 0] & np.uint64(NUMBER))
    infos = np.concatenate([entries, values]) >> np.uint64(32)
    found = np.sort(infos[infos > 1] >> np.uint64(1))
    return bool(
        ends[0] == 0
        and (np.diff(ends) >= 0).all()
        and ends[-1] <= len(letters)
        # A search that finds nothing ends at a free slot.
        and len(numbers) < slots[0]
        and np.count_nonzero(values) < slots[1]
        and np.array_equal(numbers, np.arange(1, words + 1))
        and len(found) == queries
        and np.array_equal(found, np.arange(1, len(found) + 1))
    )


@inlined
def _bit(key: int) -> int:
    return np.uint64(key) * np.uint64(GOLDEN) >> np.uint64(64 - FILTER_BITS)


@inlined
def _may_pass(passes: Words, key: int) -> int:
    """0 where `key` is not in the table, and 1 where it may be."""
    bit = _bit(key)
    return np.int64(passes[bit >> np.uint64(6)] >> (bit & np.uint64(63)) & np.uint64(1))


@kernel
def _settle(values: Ints, count: int, ranks: Ints, seen: Words, out: Ints, at: int) -> int:
    """Put the first `count` of `values` into `out` from `at` on, ascending and each once; where
    they end."""
    if count <= _FEW:
        # A value's place is how many are smaller: compared with many at once, and no branch that
        # could be guessed wrong. Equal ones have the same place and leave gaps.
        for first in range(0, count, LANES):
            rank(values, first, count, ranks)
        for place in range(at, at + count):
            out[place] = -1
        for place in range(count):
            out[at + ranks[place]] = values[place]
        end = at
        for place in range(at, at + count):
            value = out[place]
            out[end] = value
            end += value >= 0
        return end
    for place in range(count):
        seen[values[place] >> 6] |= np.uint64(1) << np.uint64(values[place] & 63)
    for word in range(len(seen)):
        bits = seen[word]
        seen[word] = 0
        while bits:
            out[at] = word << 6 | np.int64(low_zeros(bits))
            at += 1
            bits &= bits - np.uint64(1)
    return at


@kernel
def _begin(
    table: Words, passes: Words, entries: Words, at: int, stop: int, keys: Words, places: Ints
) -> int:
    """Put the keys of two words that may be in the table behind `at` into `keys`, and the place
    behind the two into `places`: where they end. Words are `entries[at:stop]`, with a 0 behind."""
    number = np.uint64(NUMBER)
    alive = at
    for place in range(at, stop):
        entry = entries[place]
        follows = entries[place + 1] & number
        key = (entry & number) << np.uint64(32) | follows
        keys[alive] = key
        places[alive] = place + 2
        has_longer = np.int64(entry >> np.uint64(32)) & 1
        alive += has_longer & (follows != 0) & _may_pass(passes, key)
    for place in range(at, alive):
        prefetch(table, 2 * _slot(table, keys[place]))
    return alive


@kernel
def _walk(
    table: Words,
    passes: Words,
    entries: Words,
    at: int,
    stop: int,
    keys: Words,
    places: Ints,
    alive: int,
    values: Ints,
) -> int:
    """Put the queries among the words `entries[at:stop]` into `values`, in any order: how many they
    are, or less than 0 where there is no room for them and LANES more.

    `keys` from `at` to `alive` are those that `_begin` put there. All of them go one word deeper at
    a time, so that their searches wait for memory together, and not one after the other.
    """
    room = len(values) - LANES
    number = np.uint64(NUMBER)
    found = 0
    if stop - at >= room:
        return -1
    for place in range(at, stop):
        info = np.int64(entries[place] >> np.uint64(32))
        values[found] = (info >> 1) - 1
        found += info > 1
    while alive > at:
        if found + alive - at >= room:
            return -1
        passed = alive
        alive = at
        for place in range(at, passed):
            value, _ = _edge(table, keys[place])
            if value:
                info = np.int64(np.uint64(value) >> np.uint64(32))
                values[found] = (info >> 1) - 1
                found += info > 1
                if info & 1:
                    behind = places[place]
                    follows = entries[behind] & number
                    key = np.uint64(value) << np.uint64(32) | follows
                    keys[alive] = key
                    places[alive] = behind + 1
                    alive += (follows != 0) & _may_pass(passes, key)
        for place in range(at, alive):
            prefetch(table, 2 * _slot(table, keys[place]))
    return found


@kernel
def search(
    heads: Words,
    ends: Ints,
    letters: Bytes,
    table: Words,
    passes: Words,
    queries: int,
    text: Bytes,
    bounds: Longs,
    has_empty: bool,
    row: int,
    values: Ints,
    begins: Longs,
) -> int:
    """Put the queries in each caption from `row` on, ascending, behind each other into `values`.

    Caption i is `text[bounds[i]:bounds[i + 1] - 1]`, and its queries will be
    `values[begins[i]:begins[i + 1]]`. Returns the row that there was no room for, or the number of
    rows. Room for the bytes of a caption and 32 more is enough for nearly all of them.
    """
    rows = len(bounds) - 1
    longest = 0
    for first in range(0, rows, _TOGETHER):
        longest = max(longest, bounds[min(first + _TOGETHER, rows)] - bounds[first])
    longest += _TOGETHER + 1
    entries, keys = np.empty(longest, np.uint64), np.empty(longest, np.uint64)
    cuts = np.empty(2 * longest, np.int64)
    places, ranks = np.empty(longest, np.int32), np.empty(_FEW + LANES, np.int32)
    starts, alive = np.zeros(_TOGETHER + 1, np.int64), np.empty(_TOGETHER, np.int64)
    found_values = np.zeros(len(values), np.int32)
    seen = np.zeros((queries >> 6) + 1, np.uint64)
    at = begins[row]
    while row < rows:
        # Some captions together, whose searches are under way while others begin.
        together = min(_TOGETHER, rows - row)
        for place in range(together):
            start = starts[place]
            begin, stop = bounds[row + place], bounds[row + place + 1] - 1
            known = cut(heads, text, begin, stop, has_empty, entries[start:], cuts[2 * start :])
            starts[place + 1] = start + known + 1
        for place in range(together):
            start, end = starts[place], starts[place + 1] - 1
            known = end - start
            enter(heads, ends, letters, text, known, entries[start:], cuts[2 * start :])
            entries[end] = 0
            alive[place] = _begin(table, passes, entries, start, end, keys, places)
        for place in range(together):
            found = _walk(
                table,
                passes,
                entries,
                starts[place],
                starts[place + 1] - 1,
                keys,
                places,
                alive[place],
                found_values,
            )
            if found < 0 or at + found > len(values):
                return row
            at = _settle(found_values, found, ranks, seen, values, at)
            row += 1
            begins[row] = at
    return row
