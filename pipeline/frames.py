"""Frames: Spark tables in a store, read and written in Python workers.

Spark's own readers need jars for each kind of store, and its writer renames what it has written.
"""

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import uuid4

import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from pipeline import parts, storage
from pipeline.storage import Place

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


def write(rows: DataFrame, folder: Place, schema: pa.Schema) -> list[Place]:
    """Write a file for every partition that has rows; the files.

    Their names are of this call alone: a task of a driver that was killed may come late, and
    leaves a file that nobody names. Of two attempts at a task the later one's file stays, which
    has the same rows.
    """
    where, own = storage.absolute(folder), uuid4().hex[:12]

    def work(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        first = next((batch for batch in batches if batch.num_rows), None)
        if first is None:
            return
        context = TaskContext.get()
        number = context.partitionId() if context is not None else 0
        name = parts.name_of(number, own)
        parts.write(where, number, schema, _with(first, batches), name)
        yield pa.RecordBatch.from_arrays([pa.array([name])], ["name"])

    told: list[Any] = rows.mapInArrow(work, "name string").collect()
    return [folder / name for name in sorted({row["name"] for row in told})]


def _with(first: pa.RecordBatch, rest: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield first
    yield from rest
