"""Clusters: which of many hashes are near one another, without comparing each with each.

Two hashes that differ in `radius` bits agree in two of `radius + 2` blocks. For each choice of two
blocks the hashes are sorted by these, and compared where they are equal; a crowd that agrees is
sorted anew by the bits that are left. Equal hashes are taken as one, and what is distinct has few
neighbours, so that no crowd is a square of comparisons.
"""

from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

import numpy as np

from pipeline.hamming import Found, HammingIndex
from pipeline.kernels import inlined, kernel
from pipeline.probes import Longs, Words, ones

_CROWD = 512
"""Distinct hashes that are compared each with each."""
_FOUND = 1 << 20
"""Found in one part; more than a crowd has pairs."""
_BY_BLOCKS = 3
"""The largest radius at which blocks are long enough. Beyond it, hashes are searched for."""
_LEADERS = 256
"""Of a crowd of images with one pHash: those that the others are compared with."""
_EACH = 2048
"""Images with one pHash that are compared each with each; more are a crowd."""


class _Moves(NamedTuple):
    """Runs of bits, from where to where, and as masks of the lowest bits."""

    source: Longs
    target: Longs
    mask: Words


def near_pairs(hashes: Words, radius: int) -> Found:
    """The pairs of hashes within the radius: the first's place, the second's, and the distance.

    Equal hashes are one, which stands at its first place; each other place of it is a pair with
    that one alone, at distance 0. So pairs grow with what is distinct, and not with its square. By
    the first's place and then by the second's; the first is the lower.
    """
    hashes = np.ascontiguousarray(hashes, np.uint64)
    order = np.argsort(hashes, kind="stable")
    values = hashes[order]
    is_first = np.ones(len(values), np.bool_)
    is_first[1:] = values[1:] != values[:-1]
    values, firsts = values[is_first], order[is_first]
    group = np.cumsum(is_first) - 1
    copies = order[~is_first]
    found = [(firsts[group[~is_first]], copies, np.zeros(len(copies), np.int64))]
    for one, other, distance in near_values(values, radius):
        places = firsts[one], firsts[other]
        found.append((np.minimum(*places), np.maximum(*places), distance))
    first, second, distance = (np.concatenate(parts) for parts in zip(*found, strict=True))
    in_order = np.lexsort((second, first))
    return first[in_order], second[in_order], distance[in_order]


def near_values(values: Words, radius: int) -> Iterator[Found]:
    """Each pair of distinct, ascending hashes within the radius, by place; some at a time."""
    if radius > _BY_BLOCKS:
        for query, hashed, distance in HammingIndex(values, radius).parts(values):
            is_above = hashed > query
            yield query[is_above], hashed[is_above], distance[is_above]
        return
    for one, other in _meeting(values, np.arange(64), radius):
        distance = np.bitwise_count(one ^ other).astype(np.int64)
        yield np.searchsorted(values, one), np.searchsorted(values, other), distance


def _meeting(values: Words, free: Longs, radius: int) -> Iterator[tuple[Words, Words]]:
    """Each pair within the radius of distinct hashes that differ in no bit but the `free`."""
    if len(values) < 2 or radius == 0:
        return
    if len(values) <= _CROWD:
        yield from _compared(values, radius)
        return
    blocks = np.array_split(free, radius + 2)
    numbers = range(len(blocks))
    fixed = values[0] & ~_mask(free)
    for one, other in combinations(numbers, 2):
        rest = np.concatenate([np.zeros(0, np.int64)] + [
            blocks[number] for number in numbers if number not in (one, other)
        ])  # fmt: skip
        moves = _moves(np.concatenate([rest, blocks[one], blocks[other]]))
        moved = _moved(values, moves)
        moved.sort()
        # A pair that agrees in other blocks too is found where they come first.
        earlier = [number for number in range(other) if number != one]
        masks = np.array([_mask(blocks[number]) for number in earlier], np.uint64)
        moved_masks = _moved(masks, moves)
        crowds = np.zeros((1024, 2), np.int64)
        begin, first, second = 0, np.empty(_FOUND, np.uint64), np.empty(_FOUND, np.uint64)
        while begin < len(moved):
            begin, found, crowded = _scan(
                moved, begin, len(rest), radius, moved_masks, first, second, crowds
            )
            yield _back(first[:found], moves, fixed), _back(second[:found], moves, fixed)
            for crowd in crowds[:crowded].tolist():
                inner = np.sort(_back(moved[slice(*crowd)], moves, fixed))
                for left, right in _meeting(inner, np.sort(rest), radius):
                    is_new = np.ones(len(left), np.bool_)
                    for mask in masks:
                        is_new &= (left ^ right) & mask != 0
                    yield left[is_new], right[is_new]


def _compared(values: Words, radius: int) -> Iterator[tuple[Words, Words]]:
    """The same, each with each."""
    first, second = np.empty(_FOUND, np.uint64), np.empty(_FOUND, np.uint64)
    masks, crowds = np.zeros(0, np.uint64), np.zeros((1, 2), np.int64)
    _, found, _ = _scan(values, 0, 64, radius, masks, first, second, crowds)
    yield _ascending(first[:found], second[:found])


def _ascending(one: Words, other: Words) -> tuple[Words, Words]:
    return np.minimum(one, other), np.maximum(one, other)


def _mask(bits: Longs) -> np.uint64:
    return np.uint64(sum(1 << bit for bit in bits.tolist()))


def _moves(order: Longs) -> _Moves:
    """What brings the bits into this order, the lowest first."""
    begins = np.flatnonzero(np.append(True, np.diff(order) != 1))
    lengths = np.diff(np.append(begins, len(order)))
    masks = [(1 << int(length)) - 1 for length in lengths]
    return _Moves(order[begins], begins, np.array(masks, np.uint64))


@kernel
def _moved(values: Words, moves: _Moves) -> Words:
    moved = np.zeros(len(values), np.uint64)
    for row in range(len(values)):
        for run in range(len(moves.mask)):
            bits = values[row] >> np.uint64(moves.source[run]) & moves.mask[run]
            moved[row] |= bits << np.uint64(moves.target[run])
    return moved


def _back(moved: Words, moves: _Moves, fixed: np.uint64) -> Words:
    values: Words = _moved(moved, _Moves(moves.target, moves.source, moves.mask)) | fixed
    return values


@kernel
def _scan(
    values: Words, begin: int, rest: int, radius: int, masks: Words,
    first: Words, second: Words, crowds: Longs,
) -> tuple[int, int, int]:  # fmt: skip
    """Compare what is equal above the lowest `rest` bits, from `begin` on. Returns where there was
    no more room, how many pairs were found, and how many crowds were passed over."""
    found, crowded = 0, 0
    while begin < len(values):
        end = begin + 1
        # A word cannot be moved by 64: then there is no key.
        if rest == 64:
            end = len(values)
        else:
            key = values[begin] >> np.uint64(rest)
            while end < len(values) and values[end] >> np.uint64(rest) == key:
                end += 1
        size = end - begin
        if size > _CROWD:
            if crowded == len(crowds):
                return begin, found, crowded
            crowds[crowded, 0], crowds[crowded, 1] = begin, end
            crowded += 1
        elif size > 1:
            if found + size * (size - 1) // 2 > len(first):
                return begin, found, crowded
            for one in range(begin, end):
                for other in range(one + 1, end):
                    apart = values[one] ^ values[other]
                    if np.int64(ones(apart)) > radius:
                        continue
                    is_new = True
                    for mask in masks:
                        is_new &= apart & mask != 0
                    if is_new:
                        first[found], second[found] = values[one], values[other]
                        found += 1
        begin = end
    return begin, found, crowded


# -- images, by two hashes -----------------------------------------------------------------


def links(phash: Words, pdq: Words, radius: int, pdq_distance: int) -> tuple[Longs, Longs]:
    """Pairs of images that connect all those which are near by both hashes, by their places.

    `pdq` has four words a row. Of pairs that others connect already, none is told: fewer come out
    than there are images. More than _EACH images of one pHash are a crowd: there, and between it
    and others where these would be more than _EACH squared pairs, images are compared with at most
    _LEADERS of the crowd, which are the first by PDQ that are near none before. What comes out
    connects the same images whatever their order.
    """
    order = np.lexsort((*pdq.T[::-1], phash)).astype(np.int64)
    phash, words = phash[order], np.ascontiguousarray(pdq[order]).reshape(-1)
    is_first = np.ones(len(phash), np.bool_)
    is_first[1:] = phash[1:] != phash[:-1]
    bounds = np.append(np.flatnonzero(is_first), len(phash)).astype(np.int64)
    sizes = np.diff(bounds)
    leaders = np.zeros((int((sizes > _EACH).sum()), _LEADERS), np.int64)
    crowd_of = np.where(sizes > _EACH, np.cumsum(sizes > _EACH) - 1, -1)
    parents = np.arange(len(phash))
    first, second = np.empty(len(phash), np.int64), np.empty(len(phash), np.int64)
    groups = np.flatnonzero(sizes > 1)
    arrays = words, bounds, crowd_of, leaders, pdq_distance, parents, first, second
    found = _confirm(groups, groups, *arrays, 0)
    for one, other, _ in near_values(phash[is_first], radius):
        found = _confirm(one, other, *arrays, found)
    return order[first[:found]], order[second[:found]]


@inlined
def _root(parents: Longs, node: int) -> int:
    while parents[node] != node:
        parents[node] = parents[parents[node]]
        node = parents[node]
    return node


@inlined
def _is_near(words: Words, one: int, other: int, radius: int) -> bool:
    apart = np.int64(0)
    for word in range(4):
        apart += np.int64(ones(words[4 * one + word] ^ words[4 * other + word]))
    return apart <= radius


@kernel
def _confirm(
    ones_: Longs, others: Longs, words: Words, bounds: Longs, crowd_of: Longs, leaders: Longs,
    radius: int, parents: Longs, first: Longs, second: Longs, found: int,
) -> int:  # fmt: skip
    """Connect the images of each two pHashes whose PDQ is near; a pHash with itself comes before
    all others. Returns how many pairs there are by now."""
    for pair in range(len(ones_)):
        # Twice: the leaders of a crowd with all of the other, and the other way round.
        for turn in range(2):
            group, with_ = (ones_[pair], others[pair]) if turn == 0 else (others[pair], ones_[pair])
            if turn and (group == with_ or (crowd_of[group] < 0 and crowd_of[with_] < 0)):
                break
            crowd = crowd_of[group]
            count = bounds[group + 1] - bounds[group]
            if crowd < 0 <= crowd_of[with_]:
                # A square again, but for small ones: the leaders have or get their turn.
                size = bounds[with_ + 1] - bounds[with_]
                if count * size > _EACH * _EACH:
                    continue
            if crowd >= 0:
                count = 0 if group == with_ else leaders[crowd, 0]
            for other in range(bounds[with_], bounds[with_ + 1]):
                leads = True
                stop = count
                if group == with_ and crowd < 0:
                    stop = other - bounds[group]
                for nth in range(stop):
                    one = bounds[group] + nth if crowd < 0 else leaders[crowd, 1 + nth]
                    left, right = _root(parents, one), _root(parents, other)
                    if left == right and not (crowd >= 0 and group == with_):
                        continue
                    if _is_near(words, one, other, radius):
                        leads = False
                        if left != right:
                            parents[max(left, right)] = min(left, right)
                            first[found], second[found] = one, other
                            found += 1
                if crowd >= 0 and group == with_ and leads and count + 1 < leaders.shape[1]:
                    count += 1
                    leaders[crowd, count] = other
            if crowd >= 0 and group == with_:
                leaders[crowd, 0] = count
    return found


def components(first: Longs, second: Longs, count: int) -> Longs:
    """For each of `count` nodes, the lowest that a chain of links connects it with."""
    parents = np.arange(count)
    _unite(first, second, parents)
    return parents


@kernel
def _unite(first: Longs, second: Longs, parents: Longs) -> None:
    for link in range(len(first)):
        one, other = _root(parents, first[link]), _root(parents, second[link])
        parents[max(one, other)] = min(one, other)
    for node in range(len(parents)):
        parents[node] = _root(parents, node)
