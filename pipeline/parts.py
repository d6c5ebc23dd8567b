"""Parts: a parquet table cut into tasks, which read and write it without the JVM.

A part is some row groups of one file. Cutting depends on the files alone, and a part writes one
file of its own number: the same table gives the same bytes on any number of workers, on a disk
and in a store.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from pipeline import parquet_files, storage
from pipeline.errors import BadInput
from pipeline.staged import GO_ON, room_in, scratch
from pipeline.storage import Place

_BATCH_ROWS = 1 << 15
_GROUP_ROWS = 1 << 17
_GROUP_BYTES = 1 << 28
"""Of one row group before it is written: less only where captions are as long as they may be."""
_PART_DDL = "number int, path string, first int, stop int"
_TALLY_DDL = "name string, first int, numbers binary"
_TALLY_QUERIES = 1 << 12
"""Counted queries that travel as one row: to the JVM a row of one number costs as much."""


class Part(NamedTuple):
    """Row groups `first` to `stop` (without it) of one file."""

    number: int
    path: str
    first: int
    stop: int


def parts(files: Sequence[str | Place], rows: int = 1 << 20) -> list[Part]:
    """`files` cut at row groups, so that a part has `rows` rows, or one group, or a whole file.

    A task may run in another folder, on another machine: what it reads is named in full.
    """
    found: list[Part] = []
    places = [storage.place(file) for file in files]
    for place, groups in zip(places, parquet_files.of_each(_group_rows, places), strict=True):
        first, held = 0, 0
        for group, count in enumerate(groups):
            held += count
            if held >= rows or group == len(groups) - 1:
                found.append(Part(len(found), storage.absolute(place), first, group + 1))
                first, held = group + 1, 0
    return found


def _group_rows(file: Place) -> list[int]:
    try:
        return parquet_files.group_rows(file)
    except (OSError, pa.ArrowInvalid) as error:
        raise BadInput(f"{file} is not a whole parquet file ({error}): write it again") from None


def read(part: Part, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of a part, some columns of them, in their order."""
    groups = list(range(part.first, part.stop))
    with parquet_files.opened(storage.place(part.path), columns, groups) as file:
        yield from file.iter_batches(_BATCH_ROWS, row_groups=groups, columns=columns)


def write(
    folder: str,
    number: int,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    name: str | None = None,
) -> int:
    """Write the file of a part, which is seen when it is whole; how many rows it has.

    A second attempt replaces it by the same; whose rows may be others has a `name` of its own.
    """
    where, name = storage.place(folder), name or name_of(number)
    if not storage.is_remote(where):
        staged = where / f".part-{number:06d}.{uuid4().hex}"
        return _write(staged, where / name, schema, batches)
    with tempfile.TemporaryDirectory(prefix="wit-", dir=scratch()) as beside:
        return _write(Path(beside, name), where / name, schema, batches)


def name_of(number: int, own: str = "") -> str:
    """The file of the part of that number."""
    return f"part-{number:06d}{own and f'-{own}'}.parquet"


def own_suffix(folder: Place) -> str:
    """What tells the files of this call from another's in a store, for `name_of`; "" on a disk.

    Where parts are cut from files that another driver would cut otherwise, a late task of a killed
    one must not replace a part of that number. On a disk its folder is moved away from it.
    """
    return uuid4().hex[:12] if storage.is_remote(folder) else ""


def _write(staged: Path, where: Place, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> int:
    # Dictionaries pay for words that repeat, and cost time where each value is new.
    words = [field.name for field in schema if field.name in ("language", "status", "reason")]
    rows = 0
    try:
        with room_in(staged.parent, GO_ON):
            with pq.ParquetWriter(
                staged, schema, compression="zstd", compression_level=1, use_dictionary=words
            ) as file:
                for table in _gathered(batches, schema):
                    file.write_table(table, row_group_size=max(table.num_rows, 1))
                    rows += table.num_rows
            storage.put_file(staged, where)
    finally:
        staged.unlink(missing_ok=True)
    return rows


def clear_staged(folder: Place) -> None:
    """Remove what killed attempts left behind; in a store they leave nothing."""
    if storage.is_remote(folder):
        return
    for staged in folder.glob(".part-*"):
        staged.unlink(missing_ok=True)  # an attempt that still runs may be the quicker one


class Tally(NamedTuple):
    """What tasks counted: numbers by name, and one number for each query."""

    counts: dict[str, int]
    per_query: npt.NDArray[np.int64]


def each(
    spark: SparkSession,
    todo: Sequence[Part],
    work: Callable[[Part], Iterable[pa.RecordBatch]],
    ddl: str | StructType,
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
    rows = each(spark, todo, lambda part: [_rows(_blocks(work(part)))], _TALLY_DDL)
    table = rows.repartition("name", "first").mapInArrow(_summed, _TALLY_DDL).toArrow()
    counts, per_query = {}, np.zeros(queries, np.int64)
    for (name, first), numbers in _read_blocks(table):
        if name is None:
            per_query[first : first + len(numbers)] = numbers
        else:
            counts[name] = int(numbers[0])
    return Tally(dict(sorted(counts.items())), per_query)


_Blocks = dict[tuple[str | None, int], npt.NDArray[np.int64]]
"""A tally in blocks: one number under each name, and many under the first query's id."""


def _blocks(told: Tally) -> _Blocks:
    blocks: _Blocks = {
        (name, 0): np.array([count], np.int64) for name, count in told.counts.items()
    }
    for first in range(0, len(told.per_query), _TALLY_QUERIES):
        numbers = told.per_query[first : first + _TALLY_QUERIES]
        if numbers.any():
            blocks[None, first] = numbers
    return blocks


def _rows(blocks: _Blocks) -> pa.RecordBatch:
    names = pa.array([name for name, _ in blocks], pa.string())
    firsts = pa.array([first for _, first in blocks], pa.int32())
    numbers = pa.array([numbers.tobytes() for numbers in blocks.values()], pa.binary())
    return pa.RecordBatch.from_arrays([names, firsts, numbers], ["name", "first", "numbers"])


def _read_blocks(
    rows: pa.RecordBatch | pa.Table,
) -> Iterator[tuple[tuple[str | None, int], npt.NDArray[np.int64]]]:
    for name, first, numbers in zip(*(column.to_pylist() for column in rows.columns), strict=True):
        yield (name, first), np.frombuffer(numbers, np.int64)


def _summed(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The sum of all blocks of one place."""
    sums: _Blocks = {}
    for batch in batches:
        for place, numbers in _read_blocks(batch):
            sums[place] = sums[place] + numbers if place in sums else numbers
    yield _rows(sums)


def _gathered(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """Batches put together to whole row groups, whatever sizes they come in."""
    held: list[pa.RecordBatch] = []
    rows, size = 0, 0
    for batch in batches:
        held.append(batch)
        rows += batch.num_rows
        size += batch.nbytes
        if rows >= _GROUP_ROWS or size >= _GROUP_BYTES:
            yield pa.Table.from_batches(held).select(schema.names).cast(schema)
            held, rows, size = [], 0, 0
    if rows:
        yield pa.Table.from_batches(held).select(schema.names).cast(schema)
