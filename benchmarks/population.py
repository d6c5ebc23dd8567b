"""Population: a sampled pool of pairs with few and crowded queries, cut by the project's own order.

A small part of the web: queries have that part of the pairs that `jobs.plan_pool` gives them,
and caps are as small. Which pairs a cap takes is decided by the compiled loops of
`pipeline.balance`, as in a run; only Spark is left out.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jobs import plan_pool
from pipeline.balance import further
from pipeline.balance.cutting import everything
from pipeline.balance.order import Claims, Cut, near, within

Flags = npt.NDArray[np.bool_]
Longs = npt.NDArray[np.int64]


class Rounds(NamedTuple):
    """What became of a pool, in pairs."""

    first: int
    drawn: int
    arrived: int
    stayed: int
    balanced: int
    first_filled: float
    """Share of the crowded queries' caps, after one round and after all."""
    filled: float


def sampled(pairs: int, scale: float, spread: float, seed: int) -> Claims:
    """So many pairs, each with the queries that its caption holds; some have none.

    A query's pairs are drawn where captions are rich, as a gamma mixture has it.
    """
    rng = np.random.default_rng(seed)
    expected = plan_pool.fitted().counts() / scale
    matches = rng.poisson(expected)
    riches = rng.gamma(spread, 1.0, pairs) if np.isfinite(spread) else np.ones(pairs)
    bounds = np.cumsum(riches)
    places = np.searchsorted(bounds, rng.random(int(matches.sum())) * bounds[-1])
    queries = np.repeat(np.arange(len(matches), dtype=np.int32), matches)
    # A caption holds a query or does not: what fell on it twice is one match.
    keys = np.unique(places.astype(np.int64) * len(matches) + queries)
    rows, values = np.divmod(keys, len(matches))
    begins = np.searchsorted(rows, np.arange(pairs + 1)).astype(np.int64)
    names = rng.integers(0, 2**64, (2, pairs), dtype=np.uint64)
    return Claims(names[0], names[1], begins, values.astype(np.int32))


def chosen(pool: Claims, has: Flags) -> Claims:
    """Some of the pairs."""
    counts = np.diff(pool.begins)
    begins = np.concatenate([[0], np.cumsum(counts[has])])
    return Claims(pool.upper[has], pool.lower[has], begins, pool.values[np.repeat(has, counts)])


def sizes_of(pool: Claims, queries: int) -> Longs:
    return np.bincount(pool.values, minlength=queries).astype(np.int64)


def cut(pool: Claims, targets: Longs, seed: int = 0) -> Cut:
    """The cut of each query behind the first `targets` of its pairs, by sorting them all."""
    queries = len(targets)
    found = everything(queries)
    room = len(pool.values) + 1
    query_ids, names = np.empty(room, np.int32), np.empty(room, np.uint64)
    priorities = np.empty(room, np.uint64)
    count = near(*pool, np.full(queries, 2**64 - 1, np.uint64), seed, query_ids, priorities, names)
    order = np.lexsort((names[:count], priorities[:count], query_ids[:count]))
    sizes = np.bincount(query_ids[:count], minlength=queries)
    ends = np.concatenate([[0], np.cumsum(sizes)])
    crowded = np.flatnonzero(targets < sizes)
    last = order[ends[crowded] + targets[crowded] - 1]
    found.priority[crowded] = priorities[last]
    found.name[crowded] = names[last]
    return found


def taken(pool: Claims, last: Cut, seed: int = 0) -> tuple[Flags, Longs]:
    """The pairs that a query takes, and how many each query does."""
    begins, values = np.empty(len(pool.begins), np.int64), np.empty(len(pool.values), np.int32)
    within(*pool, *last, seed, begins, values)
    per_query = np.bincount(values[: begins[-1]], minlength=len(last.priority)).astype(np.int64)
    return np.diff(begins) > 0, per_query


def kept(pool: Claims, queries: int, cap: int) -> int:
    """The pairs that the cap leaves, if every link were alive."""
    targets = np.minimum(sizes_of(pool, queries), cap)
    return int(taken(pool, cut(pool, targets))[0].sum())


def downloaded(
    pool: Claims,
    queries: int,
    cap: int,
    headroom: float,
    rounds: int,
    *,
    alive: float,
    kept_by_dedup: float,
    seed: int,
) -> Rounds:
    """Draw with headroom, lose the dead links, draw further, lose the duplicates, balance."""
    rng = np.random.default_rng(seed)
    is_alive = rng.random(len(pool.lower)) < alive
    is_unique = rng.random(len(pool.lower)) < kept_by_dedup
    sizes = sizes_of(pool, queries)
    targets = np.minimum(sizes, round(cap * headroom))
    crowded = sizes > targets
    could = np.minimum(sizes_of(chosen(pool, is_alive), queries), cap)[crowded].sum()
    drawn, first, filled = np.zeros(len(is_alive), np.bool_), 0, []
    for number in range(rounds):
        last = cut(pool, targets)
        drawn |= taken(pool, last)[0]
        first = first or int(drawn.sum())
        arrived = drawn & is_alive
        have = taken(chosen(pool, arrived), last)[1]
        filled.append(float(np.minimum(have, cap)[crowded].sum() / max(1, could)))
        if number < rounds - 1:
            targets = further(targets, sizes, have, cap)
    stayed = chosen(pool, arrived & is_unique)
    balanced = kept(stayed, queries, cap)
    counts = (int(drawn.sum()), int(arrived.sum()), len(stayed.lower))
    return Rounds(first, *counts, balanced, filled[0], filled[-1])
