"""Caption tables: a corpus of which only the captions are there.

reads   parquet, CSV, TSV and JSON lines of captions
writes  pair_id, caption
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from pipeline import captions, parts

REASONS = ("a row without a caption", "no row of the table", captions.CUT_OFF)
_BATCH = 4096
_DDL = "pair_id string, caption string, dropped_for string"


def of_tables(spark: SparkSession, files: Sequence[Path]) -> DataFrame:
    """Every caption of some tables, and a row with a reason for each that cannot be read.

    A parquet is cut at its row groups, another file is one task.
    """
    tasks: list[tuple[int, str, int, int]] = []
    for file in files:
        cuts = [(0, -1)]
        if file.suffix.lower() in (".parquet", ".pq"):
            cuts = [(part.first, part.stop) for part in parts.parts([file])]
        tasks += [(len(tasks) + at, str(file), *cut) for at, cut in enumerate(cuts)]
    rows = spark.createDataFrame(tasks, "number int, path string, first int, stop int")

    def read_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for task in batch.to_pylist():
                groups = None if task["stop"] < 0 else range(task["first"], task["stop"])
                yield from _captions(Path(task["path"]), groups)

    return rows.repartitionById(max(1, len(tasks)), "number").mapInArrow(read_batches, _DDL)


def _captions(path: Path, groups: range | None) -> Iterator[pa.RecordBatch]:
    unread: Counter[str] = Counter()
    held: list[captions.Caption] = []
    for caption in captions.read(path, unread, groups):
        held.append(caption)
        if len(held) == _BATCH:
            yield _batch([c.id for c in held], [c.text for c in held], None)
            held = []
    yield _batch([c.id for c in held], [c.text for c in held], None)
    for reason, count in sorted(unread.items()):
        yield _batch([str(path)] * count, [""] * count, reason)


def _batch(ids: list[str], texts: list[str], reason: str | None) -> pa.RecordBatch:
    columns = [ids, texts, [reason] * len(ids)]
    arrays = [pa.array(column, pa.string()) for column in columns]
    return pa.RecordBatch.from_arrays(arrays, ["pair_id", "caption", "dropped_for"])
