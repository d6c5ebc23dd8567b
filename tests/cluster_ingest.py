"""An ingest and the hashing of an evaluation set, which test_sources runs here and on a cluster.

reads   a table and an evaluation set, a blocklist at a path of the driver's
writes  the rows, to the standard output
"""

import json
import os
import sys
from pathlib import Path

from pyspark.sql import SparkSession

from pipeline.fingerprint import evaluation
from pipeline.ingest import ingest
from pipeline.settings import EvalSet, FingerprintSettings, IngestSettings, TableSource


def found(spark: SparkSession, table: str, pictures: str, blocklist: Path) -> list[list[str]]:
    """The candidates and the hashes."""
    settings = IngestSettings(tables=[TableSource(path=table)], blocked_domains=[str(blocklist)])
    candidates, _ = ingest(spark, settings)
    if spark.sparkContext.master.startswith("local-cluster"):
        blocklist.unlink()  # as if no worker saw it
    rows = candidates.select("pair_id", "url", "caption", "dropped_for", "rows").collect()
    evalset = EvalSet(name="things", path=pictures)
    hashed = evaluation(spark, [evalset], FingerprintSettings(), 2).select("id", "phash").collect()
    return [sorted(map(str, some)) for some in (rows, hashed)]


def main(table: str, pictures: str, blocklist: str) -> None:
    os.environ["PYSPARK_PYTHON"] = sys.executable
    told = {
        "spark.master": "local-cluster[2,1,1024]",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "2",
    }
    spark = SparkSession.builder.appName("sources").config(map=told).getOrCreate()
    sys.stdout.write(json.dumps(found(spark, table, pictures, Path(blocklist))) + "\n")
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:4])
