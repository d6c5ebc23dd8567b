"""Balance: no query keeps more than its cap of pairs.

reads   matched (before the download), images (after it)
writes  drawn, balanced, coverage

A query's pairs stand in an order that a hash of pair and query fixes for good. `draw` takes each
cap with headroom for links that are dead; `balance` takes it exactly, among what arrived. Both
read the same order, so that a further draw only continues it.
"""

from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from pipeline.schemas import BALANCED, COVERAGE, DRAWN
from pipeline.settings import BalanceSettings

REASONS = ("every query is full",)


def draw(matched: DataFrame, settings: BalanceSettings) -> DataFrame:
    """The pairs to download, with the task and the place where each is downloaded."""
    cap = round(settings.max_pairs_per_query * settings.headroom)
    # How many tasks there are depends on how many pairs are drawn: kept on disk, not drawn twice.
    drawn = _keep(matched, cap, settings.seed, into="drawn_for").persist(StorageLevel.DISK_ONLY)
    rows = drawn.where(F.col("dropped_for").isNull()).count()
    shards = max(1, -(-rows // settings.pairs_per_raw_shard))
    # Pairs are shuffled here, by hash, so that every raw shard is a random sample already and
    # image bytes never need a shuffle.
    drawn = drawn.withColumn("position", F.xxhash64("pair_id", F.lit(settings.seed)))
    drawn = drawn.withColumn("raw_shard", F.pmod("position", F.lit(shards)).cast("int"))
    return drawn.select(*DRAWN.names, "dropped_for")


def balance(arrived: DataFrame, settings: BalanceSettings) -> DataFrame:
    """The pairs that at least one of their queries keeps within the cap."""
    kept = _keep(arrived, settings.max_pairs_per_query, settings.seed, into="kept_for")
    return kept.select(*BALANCED.names, "dropped_for")


def coverage(matched: DataFrame, drawn: DataFrame, balanced: DataFrame) -> DataFrame:
    """How many pairs each query has before the caps, for download, and in the end."""
    counts = _per_query(matched, "query_ids", "matched")
    counts = counts.join(_per_query(drawn, "drawn_for", "drawn"), on="query_id", how="left")
    counts = counts.join(_per_query(balanced, "kept_for", "kept"), on="query_id", how="left")
    return counts.fillna(0, subset=["drawn", "kept"]).select(*COVERAGE.names)


def _per_query(pairs: DataFrame, column: str, name: str) -> DataFrame:
    exploded = pairs.select(F.explode(column).alias("query_id"))
    return exploded.groupBy("query_id").agg(F.count("*").alias(name))


def _keep(pairs: DataFrame, cap: int, seed: int, *, into: str) -> DataFrame:
    """`pairs` with the queries that keep each one, and a reason where none does."""
    draws = pairs.select("pair_id", F.explode("query_ids").alias("query_id"))
    draws = draws.withColumn("draw", _uniform("pair_id", "query_id", seed=seed))

    # Thin the crowded queries before ranking them: a window over every match of "of" would be
    # one task with hundreds of millions of rows. Ten standard deviations still fill the cap.
    sizes = draws.groupBy("query_id").agg(F.count("*").alias("size"))
    draws = draws.join(sizes, on="query_id", how="inner")
    draws = draws.where(F.col("draw") * F.col("size") <= cap + 10 * cap**0.5)

    in_order_drawn = Window.partitionBy("query_id").orderBy("draw", "pair_id")
    draws = draws.withColumn("rank", F.row_number().over(in_order_drawn))
    kept = draws.where(F.col("rank") <= cap)

    queries = F.sort_array(F.collect_list("query_id"))
    kept_for = kept.groupBy("pair_id").agg(queries.alias(into))
    pairs = pairs.join(kept_for, on="pair_id", how="left")
    reason = F.when(F.col(into).isNull(), "every query is full")
    return pairs.withColumn("dropped_for", reason)


def _uniform(*columns: str, seed: int) -> Column:
    """A draw from [0, 1) fixed by the row's content and the seed, not by its partition."""
    buckets = 2**53
    return F.pmod(F.xxhash64(*columns, F.lit(seed)), F.lit(buckets)) / F.lit(float(buckets))
