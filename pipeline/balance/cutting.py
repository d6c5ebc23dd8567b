"""Cuts: how far down its order each query goes, found without ever holding a query's pairs.

A query of n pairs that takes T of them finds its T-th among those whose priority is below
(T + 6 sqrt(T) + 10) / n of the whole range: 4.3% more than T for T = 20,000. Only these travel.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import SparkSession, Window
from pyspark.sql import functions as F

from pipeline import parts
from pipeline.balance.claiming import COLUMNS, Rule, claims
from pipeline.balance.order import EVERY, Cut, Longs, Words, near
from pipeline.parts import Part
from pipeline.schemas import DRAWS

_NEAR_DDL = "query_id int, place long, name long, target long"
_FLIP = np.uint64(1 << 63)
"""Turns the order of numbers without sign into that of numbers with one, which Spark has."""


def everything(queries: int) -> Cut:
    """Cuts that leave nothing out."""
    return Cut(np.full(queries, EVERY, np.uint64), np.full(queries, EVERY, np.uint64))


def cuts(spark: SparkSession, todo: list[Part], sizes: Longs, targets: Longs, rule: Rule) -> Cut:
    """The cut of each query behind the first `targets` of its `sizes` claims, exactly."""
    cut = everything(rule.queries)
    wanted = targets < sizes
    margin = 6.0
    while wanted.any():
        found = _cuts(spark, todo, sizes, np.where(wanted, targets, 0), rule, margin)
        query_ids = found["query_id"].to_numpy()
        cut.priority[query_ids] = found["place"].to_numpy().view(np.uint64) ^ _FLIP
        cut.name[query_ids] = found["name"].to_numpy().view(np.uint64) ^ _FLIP
        wanted[query_ids] = False
        # Once in a billion queries there are fewer than T below the bound.
        if wanted.any() and margin > 1e9:
            raise RuntimeError(f"query {np.flatnonzero(wanted)[0]} has fewer pairs than counted")
        margin *= 100
    return cut


def chances(shares: npt.NDArray[np.float64]) -> Cut:
    """Cuts that each query's claims pass with a chance."""
    return everything(len(shares))._replace(priority=_part_of_range(shares))


def _part_of_range(shares: npt.NDArray[np.float64]) -> Words:
    bounds = np.full(len(shares), EVERY, np.uint64)
    is_part = shares < 1
    bounds[is_part] = (shares[is_part] * 2.0**64).astype(np.uint64)
    return bounds


def _cuts(
    spark: SparkSession, todo: list[Part], sizes: Longs, targets: Longs, rule: Rule, margin: float
) -> pa.Table:
    """The pair at each query's target, where there is a target and the bound is high enough."""
    bound = targets + margin * np.sqrt(targets) + 10
    share = np.divide(bound, sizes, out=np.zeros(len(sizes)), where=targets > 0)
    sent = spark.sparkContext.broadcast((rule, _part_of_range(share), targets))

    def work(part: Part) -> Iterator[pa.RecordBatch]:
        rule, bounds, targets = sent.value
        for batch in parts.read(part, COLUMNS):
            yield _near(batch, rule, bounds, targets)

    rows = parts.each(spark, todo, work, _NEAR_DDL)
    in_order = Window.partitionBy("query_id").orderBy("place", "name")
    rows = rows.withColumn("rank", F.row_number().over(in_order))
    found = rows.where(F.col("rank") == F.col("target")).toArrow()
    sent.unpersist()
    return found


def _near(batch: pa.RecordBatch, rule: Rule, bounds: Words, targets: Longs) -> pa.RecordBatch:
    pairs = claims(batch, rule)
    room = len(pairs.values) + 1
    query_ids, priorities = np.empty(room, np.int32), np.empty(room, np.uint64)
    upper = np.empty(room, np.uint64)
    found = near(*pairs, bounds, rule.seed, query_ids, priorities, upper)
    query_ids = query_ids[:found]
    signed = [(numbers[:found] ^ _FLIP).view(np.int64) for numbers in (priorities, upper)]
    columns = [query_ids, *signed, targets[query_ids]]
    names = ["query_id", "place", "name", "target"]
    return pa.RecordBatch.from_arrays([pa.array(column) for column in columns], names)


# -- the table of cuts ---------------------------------------------------------------------


def to_table(cut: Cut, targets: Longs, drawn: Longs) -> pa.Table:
    """The cuts as `draws`."""
    is_cut = cut.priority != np.uint64(EVERY)
    return pa.table(
        [
            np.arange(len(targets), dtype=np.int32),
            targets,
            drawn,
            pa.array(cut.priority.view(np.int64), mask=~is_cut),
            pa.array(cut.name.view(np.int64), mask=~is_cut),
        ],
        schema=DRAWS,
    )


def from_table(draws: pa.Table) -> Cut:
    """The cuts that `to_table` wrote."""
    cut = everything(draws.num_rows)
    for numbers, column in zip(cut, ("last_priority", "last_name"), strict=True):
        is_cut = draws[column].is_valid().to_numpy()
        numbers[is_cut] = draws[column].drop_null().to_numpy().view(np.uint64)
    return cut
