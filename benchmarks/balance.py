"""Balance: cuts down each query's order, beside a window over every match.

The pairs have the queries that real captions match, of a list of 500,000. Rates are of one core:
CPU seconds of a session with one task at a time, its JVM and its Python workers.
"""

import hashlib
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark import __version__ as spark_version
from pyspark.sql import SparkSession, Window
from pyspark.sql import functions as F

from benchmarks import captions
from benchmarks.form import Figure, alternate, publish, spark_seconds
from jobs.spark import session
from pipeline.balance import draw
from pipeline.match import QueryIndex
from pipeline.parts import Part, parts
from pipeline.schemas import MATCHED
from pipeline.settings import BalanceSettings, SparkSettings

_QUERIES = 500_000
_CAP = 100
_MILLION = 1_000_000
_ROUNDS = 3
_CANDIDATES = 10e9


def main(data: Path) -> None:
    """Measure with the captions and excerpts in `data` and publish."""
    if not (data / "captions").is_dir():
        print(f"{data} holds no captions: bench-balance is skipped")
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        found = _matches(data)
        pools = {size: _table(folder / f"{size}", found, size) for size in (1, 3, 10)}
        settings = SparkSettings(master="local[1]", partitions=16, driver_memory="4g")
        spark = session(settings, folder / "spark")
        seconds = _measured(spark, folder, pools)
        spark.stop()
    first, last = seconds[1], seconds[10] / 10
    publish(
        "balance",
        [
            Figure(
                "3M pairs drawn",
                3 / seconds[3] * 1e6,
                "pairs/s",
                3 / seconds["window"] * 1e6,
                f"Spark {spark_version}, row_number over all matches",
                goal=3.5,
            ),
            Figure("cost of a pair, 1M pairs", first, "microseconds"),
            Figure("cost of a pair, 3M pairs", seconds[3] / 3, "microseconds"),
            Figure("cost of a pair, 10M pairs", last, "microseconds"),
            Figure("1M to 10M pairs, cost of a pair", first / last, "of itself", goal=0.85),
            Figure("10 billion pairs", last * _CANDIDATES / 1e6 / 3600, "core hours"),
        ],
    )


def _matches(data: Path) -> pa.ListArray:
    """The queries of real captions."""
    index = QueryIndex.build(captions.queries(data, _QUERIES))
    return index.match(captions.captions(data, 400_000))


def _table(folder: Path, found: pa.ListArray, millions: int) -> tuple[list[Part], Any]:
    """So many pairs with queries of `found`, as `matched`, and how many pairs each query has."""
    folder.mkdir()
    pool = np.zeros(_QUERIES, np.int64)
    for number in range(millions):
        rng = np.random.default_rng(number)
        lists = found.take(pa.array(rng.integers(len(found), size=_MILLION)))
        names = [
            hashlib.sha256(f"{number} {place}".encode()).hexdigest() for place in range(_MILLION)
        ]
        ids = pa.array([name[:32] for name in names])
        columns = {"pair_id": ids, "query_ids": lists, "url": pa.array(names), "caption": ids}
        nothing = {field.name: pa.nulls(_MILLION, field.type) for field in MATCHED}
        table = pa.table([(nothing | columns)[name] for name in MATCHED.names], schema=MATCHED)
        pq.write_table(table, folder / f"{number}.parquet", row_group_size=1 << 17)
        np.add.at(pool, lists.values.to_numpy(), 1)
    return parts(sorted(folder.glob("*.parquet"))), pool


def _measured(spark: SparkSession, folder: Path, pools: dict[int, Any]) -> dict[Any, float]:
    """CPU seconds of each size, and of the window over 3M pairs; their results agree."""
    settings = BalanceSettings(max_pairs_per_query=_CAP, headroom=1.0)
    results: dict[Any, Any] = {}

    def ours(millions: int) -> None:
        todo, pool = pools[millions]
        out = folder / "ours"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        results[millions] = draw(spark, todo, pool, settings, str(out)).tally.per_query

    def window() -> None:
        results["window"] = _window(spark, folder / "3", folder / "window")

    contenders = {1: lambda: ours(1), 3: lambda: ours(3), "window": window, 10: lambda: ours(10)}
    ours(1)  # compiles
    seconds = alternate(contenders, rounds=_ROUNDS, measure=spark_seconds)  # type: ignore[arg-type]
    # Both keep each query's pairs up to its cap; which ones, their hashes say.
    for millions in (1, 3, 10):
        assert (results[millions] == np.minimum(pools[millions][1], _CAP)).all()
    assert (results["window"] == results[3]).all(), "the two keep other numbers"
    return seconds


def _window(spark: SparkSession, folder: Path, out: Path) -> Any:
    """The same by a window over every match; the pairs that each query keeps."""
    matched = spark.read.parquet(str(folder))
    claims = matched.select("pair_id", F.explode("query_ids").alias("query_id"))
    order = Window.partitionBy("query_id").orderBy(F.xxhash64("pair_id", "query_id"), "pair_id")
    kept = claims.withColumn("rank", F.row_number().over(order)).where(F.col("rank") <= _CAP)
    lists = kept.groupBy("pair_id").agg(F.sort_array(F.collect_list("query_id")).alias("drawn_for"))
    matched.join(lists, on="pair_id", how="inner").write.mode("overwrite").parquet(str(out))
    per_query = np.zeros(_QUERIES, np.int64)
    for file in out.glob("*.parquet"):
        lists = pq.ParquetFile(file).read(columns=["drawn_for"])["drawn_for"].combine_chunks()
        np.add.at(per_query, lists.flatten().to_numpy(), 1)
    return per_query


if __name__ == "__main__":
    main(Path(sys.argv[1]))
