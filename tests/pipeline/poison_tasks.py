"""Tasks of which some always fail, and one takes its process with it; run as a driver of Spark.

python poison_tasks.py FOLDER, with raw tars in FOLDER/raw and rows in FOLDER/rows.parquet
"""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from pyspark.sql import SparkSession

from pipeline import poison
from pipeline.shard import shard


def crash(number: int) -> int:
    if number == 2:
        os.kill(os.getpid(), signal.SIGSEGV)
    if number == 3:
        raise ValueError("bad\nshard")
    return number


def crashes(spark: SparkSession) -> list[list[object]]:
    tries = poison.tries(spark)

    def work(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        from poison_tasks import crash

        for batch in batches:
            for number in batch.column("id").to_pylist():
                made = poison.tried(crash, number, tries=tries)
                if isinstance(made, poison.Trouble):
                    told = {"id": number, "made": None, **made._asdict()}
                else:
                    told = {"id": number, "made": made}
                schema = pa.schema([("id", pa.int64()), ("made", pa.int64()), *poison.FIELDS])
                yield pa.RecordBatch.from_pylist([told], schema=schema)

    rows = spark.range(0, 4, 1, 4).mapInArrow(work, f"id long, made long, {poison.DDL}")
    return sorted(list(row) for row in rows.collect())


def main(root: Path) -> None:
    builder = SparkSession.builder.master("local[2,2]").config("spark.ui.enabled", "false")
    builder = builder.config("spark.driver.host", "127.0.0.1").config("spark.driver.memory", "512m")
    spark = builder.config("spark.driver.bindAddress", "127.0.0.1").getOrCreate()
    spark.sparkContext.setLogLevel("OFF")
    placed = spark.read.parquet(str(root / "rows.parquet"))
    (root / "shards").mkdir()
    shards = shard(placed, 3, str(root / "raw"), str(root / "shards")).collect()
    told = {
        "tries": poison.tries(spark),
        "crashes": crashes(spark),
        "shards": sorted([row["name"], row["samples"], row["trouble"]] for row in shards),
    }
    (root / "told.json").write_text(json.dumps(told))
    spark.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
