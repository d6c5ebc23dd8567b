"""Parts: a parquet table cut into tasks, which read and write it without the JVM.

A part is some row groups of one file. Cutting depends on the files alone, and a part writes one
file of its own number: the same table gives the same bytes on any number of workers.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pipeline.errors import BadInput

_BATCH_ROWS = 1 << 15
_GROUP_ROWS = 1 << 17
_PART_DDL = "number int, path string, first int, stop int"
_TALLY_DDL = "name string, query_id int, number long"


class Part(NamedTuple):
    """Row groups `first` to `stop` (without it) of one file."""

    number: int
    path: str
    first: int
    stop: int


def parts(files: Sequence[str | Path], rows: int = 1 << 20) -> list[Part]:
    """`files` cut at row groups, so that a part has `rows` rows, or one group, or a whole file."""
    found: list[Part] = []
    for file in files:
        try:
            footer = pq.read_metadata(file)
        except (OSError, pa.ArrowInvalid) as error:
            raise BadInput(
                f"{file} is not a whole parquet file ({error}): write it again"
            ) from None
        first, held = 0, 0
        for group in range(footer.num_row_groups):
            held += footer.row_group(group).num_rows
            if held >= rows or group == footer.num_row_groups - 1:
                found.append(Part(len(found), str(file), first, group + 1))
                first, held = group + 1, 0
    return found


def read(part: Part, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of a part, some columns of them, in their order."""
    with pq.ParquetFile(part.path, memory_map=True) as file:
        groups = list(range(part.first, part.stop))
        yield from file.iter_batches(_BATCH_ROWS, row_groups=groups, columns=columns)


def write(folder: str, number: int, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> int:
    """Write the file of a part, staged and moved into place when whole; how many rows it has."""
    staged = Path(folder, f".part-{number:06d}.{uuid4().hex}")
    # Dictionaries pay for words that repeat, and cost time where each value is new.
    words = [field.name for field in schema if field.name in ("language", "status", "reason")]
    rows = 0
    try:
        with pq.ParquetWriter(
            staged, schema, compression="zstd", compression_level=1, use_dictionary=words
        ) as file:
            for table in _gathered(batches, schema):
                file.write_table(table, row_group_size=max(table.num_rows, 1))
                rows += table.num_rows
        staged.replace(Path(folder, f"part-{number:06d}.parquet"))
    finally:
        staged.unlink(missing_ok=True)
    return rows


def clear_staged(folder: Path) -> None:
    """Remove what killed attempts left behind."""
    for staged in folder.glob(".part-*"):
        staged.unlink()


class Tally(NamedTuple):
    """What tasks counted: numbers by name, and one number for each query."""

    counts: dict[str, int]
    per_query: npt.NDArray[np.int64]


_TALLY = pa.schema(
    [
        pa.field("name", pa.string()),
        pa.field("query_id", pa.int32()),
        pa.field("number", pa.int64()),
    ]
)


def each(
    spark: SparkSession,
    todo: Sequence[Part],
    work: Callable[[Part], Iterable[pa.RecordBatch]],
    ddl: str,
) -> DataFrame:
    """The rows that `work` makes of every part, a task each."""
    rows = spark.createDataFrame([tuple(part) for part in todo], _PART_DDL)

    def work_on(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for row in batch.to_pylist():
                yield from work(Part(**row))

    # Spark maps an id to the partition of that number.
    return rows.repartitionById(max(1, len(todo)), "number").mapInArrow(work_on, ddl)


def tally(
    spark: SparkSession, todo: Sequence[Part], work: Callable[[Part], Tally], queries: int
) -> Tally:
    """`work` on every part, a task each, and the sum of what they counted, for so many queries.

    A task that was tried twice counts once: Spark takes the rows of one attempt.
    """
    rows = each(spark, todo, lambda part: [_batch(work(part))], _TALLY_DDL)
    table = rows.groupBy("name", "query_id").agg(F.sum("number").alias("number")).toArrow()
    named = table.filter(table["query_id"].is_null())
    counted = table.filter(table["query_id"].is_valid())
    per_query = np.zeros(queries, np.int64)
    per_query[counted["query_id"].to_numpy()] = counted["number"].to_numpy()
    counts = zip(named["name"].to_pylist(), named["number"].to_pylist(), strict=True)
    return Tally(dict(sorted(counts)), per_query)


def _batch(told: Tally) -> pa.RecordBatch:
    query_ids = np.flatnonzero(told.per_query)
    names = pa.array(told.counts, pa.string())
    nothing = pa.nulls(len(names), pa.int32())
    numbers = np.concatenate([list(told.counts.values()), told.per_query[query_ids]])
    columns = [
        pa.concat_arrays([names, pa.nulls(len(query_ids), pa.string())]),
        pa.concat_arrays([nothing, pa.array(query_ids, pa.int32())]),
        pa.array(numbers, pa.int64()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=_TALLY)


def _gathered(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """Batches put together to whole row groups, whatever sizes they come in."""
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        held.append(batch)
        rows += batch.num_rows
        if rows >= _GROUP_ROWS:
            yield pa.Table.from_batches(held).select(schema.names).cast(schema)
            held, rows = [], 0
    if rows:
        yield pa.Table.from_batches(held).select(schema.names).cast(schema)
