"""pipeline.balance"""

from collections import Counter
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pipeline.balance import balance, draw
from pipeline.schemas import BALANCED, IMAGES, MATCHED
from pipeline.settings import BalanceSettings


def _pairs(spark: SparkSession, query_ids: list[list[int]], names: list[str]) -> DataFrame:
    rows = [(f"{i:032x}", ids) for i, ids in enumerate(query_ids)]
    table = spark.createDataFrame(rows, "pair_id string, query_ids array<int>")
    for name in set(names) - set(table.columns):
        table = table.withColumn(name, F.lit(None))
    return table


def _kept(table: DataFrame, column: str) -> dict[str, list[int]]:
    return {
        row.pair_id: row[column] for row in table.where(F.col("dropped_for").isNull()).collect()
    }


# Query 0 is crowded, 1 and 2 are rare.
_CROWDED = [[0] if i % 10 else [0, 1 + i // 10 % 2] for i in range(400)]


def test_no_query_keeps_more_than_its_cap_and_no_pair_is_dropped_while_one_has_room(
    spark: SparkSession,
) -> None:
    arrived = _pairs(spark, _CROWDED, IMAGES.names)
    kept = _kept(balance(arrived, BalanceSettings(max_pairs_per_query=30)), "kept_for")
    counts = Counter(query for queries in kept.values() for query in queries)
    assert counts == {0: 30, 1: 20, 2: 20}


def test_a_rare_query_keeps_a_pair_that_a_crowded_query_would_drop(spark: SparkSession) -> None:
    arrived = _pairs(spark, _CROWDED, IMAGES.names)
    kept = _kept(balance(arrived, BalanceSettings(max_pairs_per_query=30)), "kept_for")
    assert any(queries == [1] for queries in kept.values())


@pytest.mark.parametrize("partitions", [1, 7])
def test_the_same_pairs_are_kept_for_any_partitioning(spark: SparkSession, partitions: int) -> None:
    settings = BalanceSettings(max_pairs_per_query=30)
    arrived = _pairs(spark, _CROWDED, IMAGES.names)
    once = _kept(balance(arrived, settings), "kept_for")
    assert _kept(balance(arrived.repartition(partitions), settings), "kept_for") == once


def test_another_seed_keeps_other_pairs_and_as_many(spark: SparkSession) -> None:
    arrived = _pairs(spark, _CROWDED, IMAGES.names)
    first, second = (
        _kept(balance(arrived, BalanceSettings(max_pairs_per_query=30, seed=s)), "kept_for")
        for s in (0, 1)
    )
    assert first != second
    assert sum(map(len, first.values())) == sum(map(len, second.values()))


def test_balancing_what_arrived_continues_down_the_order_that_was_drawn(
    spark: SparkSession,
) -> None:
    """Drawn with headroom, then exactly: as if the dead links had never been there."""
    settings = BalanceSettings(max_pairs_per_query=30, headroom=3.0)
    matched = _pairs(spark, _CROWDED, MATCHED.names)
    alive = F.substring("pair_id", -1, 1) != "7"
    drawn = draw(matched, settings).where(F.col("dropped_for").isNull())
    for name in set(BALANCED.names) - set(drawn.columns) - {"kept_for"}:
        drawn = drawn.withColumn(name, F.lit(None))
    in_two_steps = _kept(balance(drawn.where(alive).drop("dropped_for"), settings), "kept_for")
    at_once = _pairs(spark, _CROWDED, IMAGES.names).where(alive)
    assert in_two_steps == _kept(balance(at_once, settings), "kept_for")


def test_a_drawn_pair_goes_to_one_task_of_about_the_size_asked_for(spark: SparkSession) -> None:
    settings = BalanceSettings(max_pairs_per_query=1000, pairs_per_raw_shard=100)
    rows: list[Any] = draw(_pairs(spark, _CROWDED, MATCHED.names), settings).collect()
    sizes = Counter(row.raw_shard for row in rows)
    assert sorted(sizes) == [0, 1, 2, 3]
    assert max(sizes.values()) < 150
