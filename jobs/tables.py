"""Tables: parquet files of a folder, read and written with Spark wherever the folder lies."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.storage import Place

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def files_in(folder: Place) -> list[Place]:
    """The files of a table, without those whose name, or whose folder's, Spark skips."""
    if storage.is_remote(folder):
        found = [file for file in storage.files(folder) if file.suffix == ".parquet"]
    else:
        found = sorted(folder.rglob("*.parquet"))
    return [file for file in found if not storage.is_hidden(folder, file)]


def frame(spark: SparkSession, files: Sequence[Place], schema: pa.Schema) -> DataFrame:
    """The rows of files, with those columns of them."""
    if not files:
        return spark.createDataFrame([], spark_schema(schema))
    if any(storage.is_remote(file) for file in files):
        from pipeline import frames

        return frames.frame(spark, files, schema)
    return spark.read.schema(spark_schema(schema)).parquet(*map(str, files))


def put(
    rows: DataFrame,
    folder: Place,
    schema: pa.Schema | None = None,
    check: Callable[[], None] = lambda: None,
) -> list[Place]:
    """Write the rows of a Spark table into a folder; the files that hold them.

    `check` is asked before they join what lies in the folder, and raises where they must not.
    """
    if storage.is_remote(folder):
        from pyspark.sql.pandas.types import to_arrow_schema

        from pipeline import frames

        return frames.write(rows, folder, schema or to_arrow_schema(rows.schema))
    # Executors outlive a killed driver for a while, and Spark commits whatever lies in the folder
    # that it writes to: no two drivers have the same one.
    own = folder / f"_written_{uuid4().hex}"
    try:
        rows.write.parquet(str(own))
        check()
        files: list[Place] = [file.replace(folder / file.name) for file in own.glob("*.parquet")]
    finally:
        shutil.rmtree(own, ignore_errors=True)  # a late attempt may still write there
    return sorted(files)


def remove(folder: Place) -> None:
    """Remove a folder into which tasks of a killed driver may still write.

    Moved away first, where there is such a thing, nothing is added to it while it is emptied.
    """
    if storage.is_remote(folder):
        storage.clear(folder)
        return
    gone = folder.with_name(f".{folder.name}.{uuid4().hex}")
    for left in folder.parent.glob(f".{folder.name}.*"):
        shutil.rmtree(left, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def put_arrow(rows: pa.Table, where: Place) -> None:
    """Write a small table as one file."""
    if not storage.is_remote(where):
        pq.write_table(rows, where)
        return
    whole = pa.BufferOutputStream()
    pq.write_table(rows, whole)
    storage.put(where, whole.getvalue().to_pybytes())


def spark_schema(schema: pa.Schema) -> Any:
    from pyspark.sql.pandas.types import from_arrow_schema

    return from_arrow_schema(schema)
