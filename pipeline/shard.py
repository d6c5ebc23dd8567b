"""Shard: the balanced pairs' images, compacted into final tars.

reads   images (raw tars), balanced
writes  shards (tars, a parquet of columns beside each)

Raw shards are random samples already, so the final shards are the raw ones read in order, without
the dropped pairs: no shuffle of image bytes, and none of them in the JVM.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from pipeline import tars
from pipeline.errors import BadInput
from pipeline.schemas import SHARDED
from pipeline.settings import ShardSettings

WRITTEN = "name string, samples int, bytes long, sha256 string"
"""What a task tells of each shard that it wrote."""


def plan(balanced: DataFrame, settings: ShardSettings) -> tuple[DataFrame, int]:
    """Each pair's place in the final shards, and how many shards there are.

    The order is that of the raw shards. Only their sizes come to the driver, and the window runs
    within one raw shard, so that no task holds more than one.
    """
    sizes = sorted(balanced.groupBy("raw_shard").count().collect())
    begins, total = [], 0
    for raw_shard, count in sizes:
        begins.append((raw_shard, total))
        total += count
    session = balanced.sparkSession
    starts = session.createDataFrame(begins, "raw_shard int, begin long")
    in_order = Window.partitionBy("raw_shard").orderBy("position", "pair_id")
    placed = balanced.join(F.broadcast(starts), on="raw_shard", how="inner")
    rank = F.col("begin") + F.row_number().over(in_order) - 1
    placed = placed.withColumn("rank", rank)
    placed = placed.withColumn("number", F.expr(f"int(rank div {settings.samples_per_shard})"))
    placed = placed.withColumn("sample", F.expr(f"int(rank % {settings.samples_per_shard})"))
    return placed.drop("begin", "rank"), -(-total // settings.samples_per_shard)


def shard(placed: DataFrame, shards: int, raw_folder: str, folder: str) -> DataFrame:
    """Write every shard, one task each; a row of WRITTEN for each.

    Where `placed` has `alternatives`, they go into each sample's JSON.
    """
    columns = ["number", *[name for name in SHARDED.names if name != "shard"]]
    columns += [name for name in placed.columns if name == "alternatives"]
    # Spark maps an id to the partition of that number: one task, one shard, in its order.
    tasks = placed.select(*columns).repartitionById(max(1, shards), "number")
    tasks = tasks.sortWithinPartitions("number", "sample")

    def write_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        parts = [batch for batch in batches if batch.num_rows]
        if parts:
            yield _write(pa.Table.from_batches(parts), raw_folder, folder)

    return tasks.mapInArrow(write_batches, WRITTEN)


def _write(rows: pa.Table, raw_folder: str, folder: str) -> pa.RecordBatch:
    """Write one tar and its parquet, each staged and moved into place when whole."""
    name = f"{rows.column('number')[0].as_py():06d}"
    attempt = uuid4().hex
    staged_tar = Path(folder, f".{name}.{attempt}.tar")
    staged_parquet = Path(folder, f".{name}.{attempt}.parquet")
    try:
        with staged_tar.open("wb") as tar:
            for row in rows.to_pylist():
                for extension, data in _members(row, raw_folder):
                    tars.append(tar, f"{row['pair_id']}.{extension}", data)
            tars.close(tar)
        sidecar = rows.drop_columns(["number"])
        sidecar = sidecar.add_column(0, "shard", pa.array([f"{name}.tar"] * rows.num_rows))
        pq.write_table(
            sidecar.select(SHARDED.names).cast(SHARDED), staged_parquet, compression="zstd"
        )
        size = staged_tar.stat().st_size
        with staged_tar.open("rb") as tar:
            digest = hashlib.file_digest(tar, "sha256").hexdigest()
        staged_parquet.replace(Path(folder, f"{name}.parquet"))
        staged_tar.replace(Path(folder, f"{name}.tar"))
    finally:
        staged_tar.unlink(missing_ok=True)
        staged_parquet.unlink(missing_ok=True)
    values = ([f"{name}.tar"], [rows.num_rows], [size], [digest])
    types = (pa.string(), pa.int32(), pa.int64(), pa.string())
    arrays = [pa.array(value, kind) for value, kind in zip(values, types, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, names=["name", "samples", "bytes", "sha256"])


IN_JSON = (
    "pair_id",
    "url",
    "caption",
    "page_url",
    "language",
    "width",
    "height",
    "original_width",
    "original_height",
    "sha256",
    "query_ids",
    "kept_for",
)
"""The columns of a sample's JSON, alternatives aside."""


def _members(row: dict[str, Any], raw_folder: str) -> Iterator[tuple[str, bytes]]:
    """The members of a sample, in the order of schemas.SAMPLE_MEMBERS."""
    raw = Path(raw_folder, f"{row['raw_shard']:05d}.tar")
    image = tars.read(raw, row["offset"], row["bytes"])
    if len(image) != row["bytes"] or not image.startswith(b"\xff\xd8"):
        raise BadInput(
            f"{raw} holds no JPEG of {row['bytes']} bytes at {row['offset']} (pair "
            f"{row['pair_id']}): it was changed after the download, run `wit build --again`"
        )
    yield "jpg", image
    yield "txt", row["caption"].encode()
    described = {name: row[name] for name in IN_JSON}
    if "alternatives" in row:
        described["alternatives"] = row["alternatives"]
    yield "json", json.dumps(described, ensure_ascii=False, sort_keys=True).encode()


def index(written: list[dict[str, Any]], samples_per_shard: int) -> dict[str, Any]:
    """The contents of index.json: every shard with its samples, bytes and sha256."""
    shards = sorted(written, key=lambda entry: str(entry["name"]))
    return {
        "samples_per_shard": samples_per_shard,
        "samples": sum(entry["samples"] for entry in shards),
        "shards": shards,
    }
