"""Pool: how many pairs each query has, and how many pairs caps leave, by arithmetic alone.

The counts are a curve through what MetaCLIP published of its pool (arXiv 2309.16671, section 3.3,
tables 2 and 3): Zipf-Mandelbrot in the head, a steeper power of the rank behind it. A larger pool
has more of each query in proportion. `benchmarks/plan.py` compares what comes of it with sampled
pairs, cut by `pipeline.balance`, and with figures that were not fitted.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq

Counts = npt.NDArray[np.float64]

PAIRS = 1.6e9
"""Of MetaCLIP's first pool, those that match a query."""
MATCHES = 5.67e9
HEAD_MATCHES = 5.35e9
"""Of the queries with more than CAP pairs."""
HEAD_QUERIES = 16_000
WITH_PAIRS = 386_000
"""Of 500,000 queries; 114,000 match nothing."""
FIRST = 120e6
"""Pairs of the most frequent query, `of`."""
CAP = 20_000.0


class Curve(NamedTuple):
    """The parameters that go through the published totals."""

    exponent: float
    shift: float
    tail_exponent: float

    def counts(self) -> Counts:
        """The pairs of each query that has any, the most frequent first."""
        head = np.arange(1, HEAD_QUERIES + 1)
        tail = np.arange(HEAD_QUERIES + 1, WITH_PAIRS + 1)
        return np.concatenate(
            [
                CAP * ((HEAD_QUERIES + self.shift) / (head + self.shift)) ** self.exponent,
                CAP * (tail / HEAD_QUERIES) ** -self.tail_exponent,
            ]
        )


@cache
def fitted() -> Curve:
    """Three conditions for the head (first, last, sum), one for the sum of the tail."""

    def shift(exponent: float) -> float:
        # The first to the last: ((R + q) / (1 + q)) ** a.
        ratio = float((FIRST / CAP) ** (1 / exponent))
        return (HEAD_QUERIES - ratio) / (ratio - 1)

    def head(exponent: float) -> float:
        curve = Curve(exponent, shift(exponent), 2.0)
        return float(curve.counts()[:HEAD_QUERIES].sum()) - HEAD_MATCHES

    def tail(exponent: float) -> float:
        curve = Curve(1.0, 1.0, exponent)
        return float(curve.counts()[HEAD_QUERIES:].sum()) - (MATCHES - HEAD_MATCHES)

    exponent = float(brentq(head, 1.0, 1.5))
    return Curve(exponent, shift(exponent), float(brentq(tail, 1.2, 4.0)))


def counts(pairs: float) -> Counts:
    """The pairs of each query in a pool of so many that match."""
    return _published() * (pairs / PAIRS)


@cache
def _published() -> Counts:
    found = fitted().counts()
    found.flags.writeable = False
    return found


def union(pairs: float, claims: float, together: float) -> float:
    """Pairs that have one of the claims or more: a pair may be claimed by several queries.

    Claims on one pair are spread as a gamma mixture of Poissons: with a large `together` as chance
    would have it, with a small one some captions have many and most have none.
    """
    if not pairs:
        return 0.0
    # Of the pairs none has fewer claims than one, and there are no more pairs than claims.
    share = -np.expm1(-together * np.log1p(claims / pairs / together))
    return float(min(pairs * share, claims))


def together(pairs: float, claims: float, kept: float) -> float:
    """The spread with which so many claims are on so many pairs."""
    return float(brentq(lambda spread: union(pairs, claims, spread) - kept, 1e-3, 1e4))


class Drawn(NamedTuple):
    """What the caps leave of a pool, step by step, in pairs."""

    first: float
    """Drawn before the first round of downloads."""
    drawn: float
    """In all rounds."""
    alive: float
    kept_by_dedup: float
    balanced: float
    crowded: int
    """Queries with more pairs than the cap with headroom."""
    near: float
    """Claims near a cut, which are shuffled to find it."""
    near_kept: float
    """The same of the exact cap, among pairs that arrived."""
    filled: float
    """Share of the crowded queries' caps that downloads fill, of what is alive at all."""
    first_filled: float
    """The same if there were one round."""


def drawn(
    pairs: float,
    cap: int,
    headroom: float,
    rounds: int,
    *,
    alive: float,
    kept_by_dedup: float,
    spread: float,
) -> Drawn:
    """What `draw`, the rounds of the download and `balance` make of a pool of matching pairs."""
    sizes = counts(pairs)
    target = round(cap * headroom)
    first = np.minimum(sizes, target)
    targets = further(first, sizes, alive, cap, rounds)
    in_first, in_all = (union(pairs, float(of.sum()), spread) for of in (first, targets))
    arrived = in_all * alive
    # A query also keeps what others have drawn, of those of its pairs that it did not.
    others = in_all / pairs if pairs else 0.0
    stays = alive * kept_by_dedup
    have = stays * (targets + others * (sizes - targets))
    claims = np.minimum(have, cap)
    balanced = union(pairs * stays, float(claims.sum()), spread)
    is_crowded = sizes > target
    return Drawn(
        in_first,
        in_all,
        arrived,
        arrived * kept_by_dedup,
        min(balanced, arrived * kept_by_dedup),
        int(is_crowded.sum()),
        float(is_crowded.sum() * near(target)),
        float((have > cap).sum() * near(cap)),
        _filled(alive * targets[is_crowded], alive * sizes[is_crowded], cap),
        _filled(alive * first[is_crowded], alive * sizes[is_crowded], cap),
    )


def _filled(have: Counts, could: Counts, cap: int) -> float:
    """The share of the caps that is filled, of what the links that are alive could fill."""
    caps = float(np.minimum(could, cap).sum())
    return float(np.minimum(have, cap).sum()) / caps if caps else 1.0


def near(target: float) -> float:
    """Claims below the bound under which a cut is looked for: `pipeline.balance.cutting`."""
    return target + 6 * float(np.sqrt(target)) + 10


def further(first: Counts, sizes: Counts, alive: float, cap: int, rounds: int) -> Counts:
    """How far down its order each query goes in all rounds: `pipeline.balance.further`."""
    targets = first
    for _ in range(rounds - 1):
        have = alive * targets
        more = 1.1 * (cap - have) / alive
        is_short = (have < cap) & (targets < sizes)
        targets = np.where(is_short, np.minimum(targets + more, sizes), targets)
    return targets
