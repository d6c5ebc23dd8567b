"""Claims: which queries may keep a pair, read from a table's batches.

`union`: every query of the pair, each with its own cap. `bernoulli`: the same, with a chance in
place of the cap. `rarest`: the one query of the pair that has the fewest pairs in the pool, so that
no pair is kept for two.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.balance.order import Claims, Cut, Longs, halves, rarest, within
from pipeline.errors import BadInput
from pipeline.lexicon import bounded

COLUMNS = ["pair_id", "query_ids"]
"""What `claims` reads of a table."""


class Rule(NamedTuple):
    """How claims are read, and what orders them."""

    queries: int
    """How many there are."""
    seed: int
    pool: Longs | None = None
    """The pairs of each query in the pool, where the rarest is asked for."""


def claims(batch: pa.RecordBatch, rule: Rule) -> Claims:
    """The claims of a batch. Raises BadInput for a name or a query that there cannot be."""
    names = batch.column("pair_id")
    upper, lower = np.empty(len(names), np.uint64), np.empty(len(names), np.uint64)
    bad = halves(*bounded(names), upper, lower)
    if bad >= 0:
        raise BadInput(
            f"the pair_id {names[bad].as_py()!r} is not 32 hexadecimal digits: make the pairs "
            "with `wit ingest`"
        )
    lists = batch.column("query_ids")
    offsets = lists.offsets.to_numpy().astype(np.int64)
    values = lists.values.to_numpy()[offsets[0] : offsets[-1]]
    begins = offsets - offsets[0]
    # Nothing checks an index in a compiled loop.
    if len(values) and not 0 <= values.min() <= values.max() < rule.queries:
        raise BadInput(
            f"query_ids names queries that the list of {rule.queries:,} has not: run "
            "`wit match --again`"
        )
    if rule.pool is not None:
        kept_begins, kept = np.empty(len(begins), np.int64), np.empty(len(names), np.int32)
        rarest(begins, values, rule.pool, kept_begins, kept)
        begins, values = kept_begins, kept[: kept_begins[-1]]
    return Claims(upper, lower, begins, values)


def kept(pairs: Claims, rule: Rule, cut: Cut) -> Claims:
    """The claims not behind their query's cut. Raises BadInput for the cuts of another list."""
    if len(cut.priority) != rule.queries or len(cut.name) != rule.queries:
        raise BadInput(
            f"there are cuts of {len(cut.priority):,} queries, and the list has {rule.queries:,}: "
            "run `wit draw --again`"
        )
    begins, values = np.empty(len(pairs.begins), np.int64), np.empty(len(pairs.values), np.int32)
    within(*pairs, *cut, rule.seed, begins, values)
    return pairs._replace(begins=begins, values=values[: begins[-1]])
