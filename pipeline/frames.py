"""Frames: Spark tables in a store, read and written in Python workers.

Spark's own readers need jars for each kind of store, and its writer renames what it has written.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from pipeline import parts, storage
from pipeline.storage import Place

_WRITTEN_DDL = "number int, rows long"
_READ_ROWS = 1 << 18
"""Of one task, as far as row groups allow: what follows is not cut anew."""


def frame(spark: SparkSession, files: Sequence[Place], schema: pa.Schema) -> DataFrame:
    """The rows of parquet files, with those columns of them."""
    names = schema.names

    def read(part: parts.Part) -> Iterator[pa.RecordBatch]:
        for batch in parts.read(part, names):
            yield batch.select(names)

    todo = parts.parts(files, _READ_ROWS)
    return parts.each(spark, todo, read, from_arrow_schema(schema))


def write(rows: DataFrame, folder: Place, schema: pa.Schema) -> int:
    """Write a file for every partition that has rows; how many rows there are.

    A further attempt replaces the file of the one before it. What an earlier write left in the
    folder is gone afterwards.
    """
    where = storage.absolute(folder)

    def work(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        first = next((batch for batch in batches if batch.num_rows), None)
        if first is None:
            return
        context = TaskContext.get()
        number = context.partitionId() if context is not None else 0
        count = parts.write(where, number, schema, _with(first, batches))
        yield pa.RecordBatch.from_arrays(
            [pa.array([number], pa.int32()), pa.array([count], pa.int64())], ["number", "rows"]
        )

    told: list[Any] = rows.mapInArrow(work, _WRITTEN_DDL).collect()
    names = {parts.name_of(row["number"]) for row in told}
    for file in storage.files(folder):
        # A task of a driver that was killed may have come late.
        if file.name.startswith("part-") and file.parent == folder and file.name not in names:
            storage.remove(file)
    return sum(row["rows"] for row in told)


def _with(first: pa.RecordBatch, rest: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield first
    yield from rest
