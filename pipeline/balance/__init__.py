"""Balance: no query keeps more than its cap of pairs.

reads   matched, counts (before the download); images that arrived (after it)
writes  drawn, draws; balanced, coverage

A query's pairs stand in an order that a hash of pair and query fixes for good. `draw` takes each
cap with headroom for links that are dead; `balance` takes it exactly, among what arrived. Both
read the same order, so that a further draw only continues it. No task ever holds the pairs of one
query: each query's cut is found among a few more pairs than its cap, and then every part is
filtered by all cuts where it lies.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import SparkSession

from pipeline import parts
from pipeline.balance.claiming import COLUMNS, Rule, claims, kept
from pipeline.balance.cutting import chances, cuts, everything, from_table, to_table
from pipeline.balance.order import Claims, Cut, Longs, positions
from pipeline.errors import BadInput
from pipeline.parts import Part, Tally
from pipeline.schemas import BALANCED, DRAWN, FAILED, IMAGES, MATCHED
from pipeline.settings import BalanceSettings

__all__ = [
    "BEFORE",
    "FULL",
    "Cut",
    "Drawn",
    "again",
    "arrivals",
    "available",
    "balance",
    "draw",
    "from_table",
    "further",
    "to_table",
]

FULL = "every query is full"
"""The reason of a pair that no query draws or keeps."""
BEFORE = "drawn before"
"""The reason of a pair that an earlier draw took."""


class Drawn(NamedTuple):
    """What a draw took."""

    tally: Tally
    """"rows", FULL and BEFORE, and the pairs that each query has drawn, now or before."""
    targets: Longs
    """How far down its order each query went."""
    sizes: Longs
    """How far it could have gone."""
    cut: Cut
    """The last pair there."""


class _Sieve(NamedTuple):
    rule: Rule
    cut: Cut
    before: Cut | None = None
    wanting: npt.NDArray[np.bool_] | None = None
    """The queries of which a pair must have one, where not any will do."""


def draw(
    spark: SparkSession,
    matched: list[Part],
    pool: Longs,
    settings: BalanceSettings,
    folder: str,
    *,
    targets: Longs | None = None,
    before: Cut | None = None,
) -> Drawn:
    """Write the pairs to download, with the task and the place where each is downloaded.

    `pool` is how many pairs each query has. Each query draws its cap with headroom, or `targets`;
    what an earlier draw took, which went as far as the cut `before`, is left out.
    """
    rule = _rule(pool, settings)
    sizes = available(spark, matched, pool, settings)
    if targets is None:
        targets = np.full(len(pool), _with_headroom(settings), np.int64)
    targets = np.minimum(targets, sizes)
    if settings.semantics == "bernoulli":
        cut = chances(_shares(targets, sizes))
    else:
        cut = cuts(spark, matched, sizes, targets, rule)
    sieve = _Sieve(rule, cut, before)
    # How many tasks there are depends on how many pairs are drawn.
    rows = _tally(spark, matched, sieve, _counted).counts["rows"]
    shards = max(1, -(-rows // settings.pairs_per_raw_shard))

    def write(part: Part, sieve: _Sieve) -> Tally:
        told = _nothing(sieve)
        sifted = _sifted(part, MATCHED.names, sieve, told)
        placed = (_placed(*one, sieve.rule.seed, shards) for one in sifted)
        parts.write(folder, part.number, DRAWN, placed)
        return told

    return Drawn(_tally(spark, matched, sieve, write), targets, sizes, cut)


def available(
    spark: SparkSession, matched: list[Part], pool: Longs, settings: BalanceSettings
) -> Longs:
    """How many pairs each query could draw."""
    rule = _rule(pool, settings)
    return pool if rule.pool is None else _sizes(spark, matched, rule)


def further(targets: Longs, sizes: Longs, arrived: Longs, cap: int) -> Longs:
    """The targets of a further draw: more for the queries that are short of their cap.

    `targets` is how far down its order each query went, `sizes` how far it can go, and `arrived`
    how many of the pairs as far as there have arrived. A tenth more is asked for than their share
    of survivors makes necessary.
    """
    is_short = (arrived < cap) & (targets < sizes)
    survive = (arrived + 1) / (targets + 2)
    more = np.ceil(1.1 * (cap - arrived) / survive).astype(np.int64)
    return np.where(is_short, np.minimum(targets + more, sizes), targets)


def arrivals(
    spark: SparkSession, arrived: list[Part], pool: Longs, settings: BalanceSettings, cut: Cut
) -> Longs:
    """How many pairs of each query have arrived that its order holds as far as `cut`."""
    return _tally(spark, arrived, _Sieve(_rule(pool, settings), cut), _counted).per_query


def again(
    spark: SparkSession,
    failed: list[Part],
    pool: Longs,
    settings: BalanceSettings,
    folder: str,
    *,
    cut: Cut,
    is_short: npt.NDArray[np.bool_],
    own: str = "",
) -> Tally:
    """Write the failed pairs that a query which is short has as far as its cut: "rows" and FULL.

    They are drawn for every query that by now has come as far. The file of each part is named by
    `parts.name_of` with `own`.
    """
    sieve = _Sieve(_rule(pool, settings), cut, wanting=is_short)

    def write(part: Part, sieve: _Sieve) -> Tally:
        told = _nothing(sieve)
        sifted = _sifted(part, FAILED.names, sieve, told)
        found = (_drawn(*one) for one in sifted)
        parts.write(folder, part.number, FAILED, found, parts.name_of(part.number, own))
        return told

    return _tally(spark, failed, sieve, write)


def balance(
    spark: SparkSession,
    arrived: list[Part],
    pool: Longs,
    settings: BalanceSettings,
    folder: str,
    *,
    targets: Longs | None = None,
    own: str = "",
) -> tuple[Tally, Longs]:
    """Write the pairs that at least one of their queries keeps within the cap.

    `pool` is how many pairs each query had, and `targets` how far down its order the last draw
    went, where not the cap with headroom. The file of each part is named by `parts.name_of` with
    `own`. Returns "rows" and FULL with the pairs that each query keeps, and the pairs of each query
    that arrived. Raises BadInput where a query's cut falls between two pairs of one name.
    """
    rule = _rule(pool, settings)
    cap = settings.max_pairs_per_query
    if settings.semantics == "bernoulli":
        if targets is None:
            targets = np.minimum(_with_headroom(settings), pool)
        # A query drew this share of its pool: so many of its pairs would have arrived of all.
        drawn = _shares(targets, pool)
        sizes = arrivals(spark, arrived, pool, settings, chances(drawn))
        expected = np.minimum(cap, sizes)
        cut = chances(np.minimum(drawn, _shares(np.full(len(pool), cap), sizes / drawn)))
    else:
        sizes = _sizes(spark, arrived, rule)
        expected = np.minimum(cap, sizes)
        cut = cuts(spark, arrived, sizes, expected, rule)

    def write(part: Part, sieve: _Sieve) -> Tally:
        told = _nothing(sieve)
        sifted = _sifted(part, IMAGES.names, sieve, told)
        found = (_kept(*one) for one in sifted)
        parts.write(folder, part.number, BALANCED, found, parts.name_of(part.number, own))
        return told

    tally = _tally(spark, arrived, _Sieve(rule, cut), write)
    if settings.semantics != "bernoulli" and (tally.per_query != expected).any():
        query_id = int(np.flatnonzero(tally.per_query != expected)[0])
        raise BadInput(
            f"query {query_id} keeps {tally.per_query[query_id]:,} pairs where it has "
            f"{expected[query_id]:,}: a pair_id comes twice, run `wit ingest --again`"
        )
    return tally, sizes


def _rule(pool: Longs, settings: BalanceSettings) -> Rule:
    seed = settings.seed % 2**63  # whatever it is, a number of the compiled loops
    return Rule(len(pool), seed, pool=pool if settings.semantics == "rarest" else None)


def _with_headroom(settings: BalanceSettings) -> int:
    return round(settings.max_pairs_per_query * settings.headroom)


def _shares(targets: Longs, sizes: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Target to size, where that is less than 1."""
    shares = np.ones(len(sizes))
    np.divide(targets, sizes, out=shares, where=sizes > targets)
    return shares


def _nothing(sieve: _Sieve) -> Tally:
    return Tally({"rows": 0, FULL: 0, BEFORE: 0}, np.zeros(sieve.rule.queries, np.int64))


def _tally(
    spark: SparkSession, todo: list[Part], sieve: _Sieve, work: Callable[[Part, _Sieve], Tally]
) -> Tally:
    """The tally of all parts; `sieve` is sent once to each worker, and not with each task."""
    sent = spark.sparkContext.broadcast(sieve)
    told = parts.tally(spark, todo, lambda part: work(part, sent.value), sieve.rule.queries)
    sent.unpersist()
    return told


def _sizes(spark: SparkSession, todo: list[Part], rule: Rule) -> Longs:
    """The claims of each query."""
    return _tally(spark, todo, _Sieve(rule, everything(rule.queries)), _counted).per_query


def _counted(part: Part, sieve: _Sieve) -> Tally:
    told = _nothing(sieve)
    for _ in _sifted(part, COLUMNS, sieve, told):
        pass
    return told


def _sifted(
    part: Part, names: list[str], sieve: _Sieve, told: Tally
) -> Iterator[tuple[pa.RecordBatch, Claims]]:
    """The pairs of a part that a query takes, with those queries; counted in `told`."""
    for batch in parts.read(part, names):
        pairs = claims(batch, sieve.rule)
        taken = kept(pairs, sieve.rule, sieve.cut)
        np.add.at(told.per_query, taken.values, 1)
        has = np.diff(taken.begins) > 0
        if sieve.wanting is not None:
            has = np.diff(np.append(0, np.cumsum(sieve.wanting[taken.values]))[taken.begins]) > 0
        told.counts[FULL] += int((~has).sum())
        if sieve.before is not None:
            is_new = np.diff(kept(pairs, sieve.rule, sieve.before).begins) == 0
            told.counts[BEFORE] += int((has & ~is_new).sum())
            has &= is_new
        if not has.all():
            batch, taken = batch.filter(pa.array(has)), _chosen(taken, has)
        told.counts["rows"] += batch.num_rows
        yield batch, taken


def _chosen(pairs: Claims, has: npt.NDArray[np.bool_]) -> Claims:
    """The claims of some of the pairs."""
    counts = np.diff(pairs.begins)
    begins = np.concatenate([[0], np.cumsum(counts[has])])
    values = pairs.values[np.repeat(has, counts)]
    return Claims(pairs.upper[has], pairs.lower[has], begins, values)


def _lists(pairs: Claims) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(pairs.begins.astype(np.int32)), pa.array(pairs.values))


def _kept(batch: pa.RecordBatch, pairs: Claims) -> pa.RecordBatch:
    return batch.append_column("kept_for", _lists(pairs))


def _drawn(batch: pa.RecordBatch, pairs: Claims) -> pa.RecordBatch:
    place = batch.schema.get_field_index("drawn_for")
    return batch.set_column(place, "drawn_for", _lists(pairs))


def _placed(batch: pa.RecordBatch, pairs: Claims, seed: int, shards: int) -> pa.RecordBatch:
    """Pairs with the task and the place of their download: a hash, so that every raw shard is a
    random sample already and image bytes never need a shuffle."""
    place = np.empty(len(pairs.lower), np.uint64)
    positions(pairs.lower, seed, place)
    batch = batch.append_column("drawn_for", _lists(pairs))
    batch = batch.append_column("round", pa.array(np.ones(len(place), np.int32)))
    batch = batch.append_column("raw_shard", pa.array((place % shards).astype(np.int32)))
    return batch.append_column("position", pa.array(place.view(np.int64)))
