"""Shard: the balanced pairs' images, compacted into final tars.

reads   images (raw tars), balanced
writes  shards (tars, a parquet of columns and the places of samples beside each)

Raw shards are random samples already, so the final shards are the raw ones read in order, without
the dropped pairs: no shuffle of image bytes, and none of them in the JVM.
"""

from collections.abc import Iterator

import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from pipeline import poison, storage
from pipeline.compaction import compact
from pipeline.placing import stem_of
from pipeline.schemas import SHARDED
from pipeline.settings import ShardSettings

WRITTEN = f"name string, samples int, bytes long, sha256 string, {poison.DDL}"
"""What a task tells of each shard that is in place: placing.Written; or why it is not."""


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
    """Write every shard that is not there yet, one task each; a row of WRITTEN for each.

    Where `placed` has `alternatives`, they go into each sample's JSON. A row with a `trouble` is of
    a shard that failed at every try.
    """
    columns = ["number", *[name for name in SHARDED.names if name != "shard"]]
    columns += [name for name in placed.columns if name == "alternatives"]
    # Spark maps an id to the partition of that number: one task, one shard, in its order.
    tasks = placed.select(*columns).repartitionById(max(1, shards), "number")
    tasks = tasks.sortWithinPartitions("number", "sample")
    tries = poison.tries(placed.sparkSession)

    def write_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        parts = [batch for batch in batches if batch.num_rows]
        if parts:
            rows = pa.Table.from_batches(parts)
            number = rows["number"][0].as_py()
            rows = rows.drop_columns(["number"])
            places = storage.place(raw_folder), storage.place(folder)
            made = poison.tried(compact, rows, number, *places, tries=tries)
            told = {"name": f"{stem_of(number)}.tar"} | made._asdict()
            yield pa.RecordBatch.from_pylist([told], schema=_WRITTEN)

    return tasks.mapInArrow(write_batches, WRITTEN)


_WRITTEN = pa.schema(
    [
        ("name", pa.string()),
        ("samples", pa.int32()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
        *poison.FIELDS,
    ]
)
