"""Rounds: what one more round of downloads asks for, after all before it.

reads   matched, counts, and the images so far
writes  the pairs of the round, in a folder that goes when they are downloaded

Queries that are short of their cap draw further pairs, down the same order; and failures that may
heal are tried again where a short query wants them. All of it follows from what has arrived, so
that a killed run asks for the same once more.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame

from jobs import tables
from jobs.run import Run
from pipeline import parts as pieces
from pipeline import storage
from pipeline.balance import Cut, again, arrivals, available, draw, from_table, further, to_table
from pipeline.download.tries import arrived, failed, placed
from pipeline.parts import parts
from pipeline.placeholders import placeholders
from pipeline.schemas import DRAWN
from pipeline.storage import Place

Longs = npt.NDArray[np.int64]


class Reached(NamedTuple):
    """How far down its order each query went."""

    targets: Longs
    drawn: Longs
    cut: Cut

    def as_table(self) -> pa.Table:
        return to_table(self.cut, self.targets, self.drawn)


class Asked(NamedTuple):
    """What a round asks for."""

    pairs: DataFrame
    rows: int
    again: Counter[str]
    """Those of the rows that are tried again, by the reason of their last failure."""
    reached: Reached


def first(run: Run) -> Asked:
    """What was drawn."""
    draws = run.read_arrow("draws")
    targets, drawn = draws["target"].to_numpy(), draws["drawn"].to_numpy()
    reached = Reached(targets, drawn, from_table(draws))
    return Asked(run.read("drawn"), run.rows("drawn"), Counter(), reached)


def another(
    run: Run, folder: Place, images: DataFrame, reached: Reached, place: tuple[int, int]
) -> Asked:
    """What the next round asks for, after all `images` before it, staged in `folder`.

    `place` is the number of the round, and that of its first raw shard.
    """
    settings = run.settings.balance
    pool = run.read_arrow("counts", ["pairs"])["pairs"].to_numpy()
    pairs = arrived(images)
    errors = placeholders(pairs, run.settings.dedup).select("pair_id")
    pairs = pairs.join(errors, on="pair_id", how="left_anti").select("pair_id", "query_ids")
    staged = parts(_written(pairs, folder / "arrived"))

    matched = parts(run.files("matched"))
    sizes = available(run.spark, matched, pool, settings)
    into, rows = _empty(folder / "drawn"), 0
    while not rows:
        have = arrivals(run.spark, staged, pool, settings, reached.cut)
        targets = further(reached.targets, sizes, have, settings.max_pairs_per_query)
        if (targets == reached.targets).all():
            break
        before = reached.cut
        drawn = draw(run.spark, matched, pool, settings, str(into), targets=targets, before=before)
        # None, where other queries had drawn all of them: then it goes on down the order.
        rows = drawn.tally.counts["rows"]
        reached = Reached(drawn.targets, drawn.tally.per_query, drawn.cut)

    files = tables.files_in(into)
    into, tried_again = _empty(folder / "again"), Counter[str]()
    if run.settings.download.retry_failures:
        todo = parts(_written(failed(images), folder / "failed"))
        is_short = have < np.minimum(settings.max_pairs_per_query, sizes)
        own, where = pieces.own_suffix(into), str(into)
        again(run.spark, todo, pool, settings, where, cut=reached.cut, is_short=is_short, own=own)
        written = [into / pieces.name_of(part.number, own) for part in todo]
        tried_again, files = _reasons(written), [*files, *written]

    rows += tried_again.total()
    tasks = max(1, -(-rows // settings.pairs_per_raw_shard))
    pairs = run.frame(files, DRAWN)
    return Asked(placed(pairs, *place, tasks) if files else pairs, rows, tried_again, reached)


def clear(folder: Place) -> None:
    """Remove what is left of all rounds of the images in `folder`."""
    if storage.is_remote(folder):
        names = {storage.below(folder, place).partition("/")[0] for place in storage.files(folder)}
        rounds = {name for name in names if name.startswith("_round-")}
    else:
        rounds = {place.name for place in folder.glob("_round-*")}
    for name in rounds:
        storage.clear(folder / name)


def _reasons(files: Sequence[Place]) -> Counter[str]:
    counts = Counter[str]()
    for part in parts(files):
        for batch in pieces.read(part, ["reason"]):
            found = batch.column("reason").value_counts().to_pylist()
            counts.update({entry["values"]: entry["counts"] for entry in found})
    return counts


def _empty(folder: Place) -> Place:
    tables.remove(folder)
    storage.make_folder(folder)
    return folder


def _written(frame: DataFrame, folder: Place) -> list[Place]:
    """The files of a Spark table, written for tasks that read it without the JVM."""
    return tables.put(frame, _empty(folder))
