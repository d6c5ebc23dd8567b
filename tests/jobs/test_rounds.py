"""Rounds: which pairs are tried again, and what the download does around its rounds."""

import json
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from jobs.run import spark_schema
from jobs.walk import stage_of
from pipeline.download import clear_others, totals
from pipeline.download.tries import failed
from pipeline.schemas import IMAGES
from pipeline.settings import DedupSettings, Settings


def _images(spark: SparkSession, tries: list[tuple[str, int, str | None]]) -> Any:
    """Rows of images: pair, round, reason. What says nothing here is empty."""
    empty: dict[str, Any] = {"url": "", "caption": "", "query_ids": [], "drawn_for": []}
    empty |= {"raw_shard": 0, "position": 0}
    names = IMAGES.names
    rows = []
    for pair, number, reason in tries:
        told = {**empty, "pair_id": pair, "round": number, "reason": reason}
        rows.append(tuple(told.get(name) for name in names))
    return spark.createDataFrame(rows, spark_schema(IMAGES))


def test_the_last_try_decides_whether_a_pair_is_tried_again(spark: SparkSession) -> None:
    images = _images(
        spark,
        [
            ("healed", 1, "timeout"),
            ("healed", 2, None),
            ("gone since", 1, "server error"),
            ("gone since", 3, "gone"),
            ("still ill", 1, "timeout"),
            ("still ill", 2, "dns"),
            ("once", 1, "connection"),
            ("drawn later", 2, "incomplete"),
            ("for good", 1, "not found"),
            ("there", 1, None),
        ],
    )
    found = failed(images).select("pair_id", "round", "reason").collect()
    assert sorted(tuple(row) for row in found) == [
        ("drawn later", 2, "incomplete"),
        ("once", 1, "connection"),
        ("still ill", 2, "dns"),
    ]


def _shard(folder: Path, number: int, **more: Any) -> None:
    name = f"{number:05d}"
    sizes = {}
    for suffix in ("tar", "parquet"):
        (folder / f"{name}.{suffix}").write_bytes(b"12345")
        sizes[f"{name}.{suffix}"] = 5
    stats = {
        "rows": 3,
        "successes": 2,
        "bytes": 7,
        "reasons": {"gone": 1},
        "failed_hosts": {"a": 1},
        "asked_hosts": {"a": 3},
    }
    pace = dict.fromkeys(("requests", "retries", "connections", "received_bytes"), 0) | more
    stats |= {"sha256": str(number), "files": sizes, "pairs": "", "pace": {"seconds": 0.0} | pace}
    (folder / f"{name}_stats.json").write_text(json.dumps(stats))


def test_the_pace_of_shards_is_summed(tmp_path: Path) -> None:
    _shard(tmp_path, 0, seconds=1.5)
    _shard(tmp_path, 1, seconds=2.0, requests=4, retries=1, received_bytes=9)
    sums = totals(tmp_path, [0, 1])
    assert (sums.task_seconds, sums.requests, sums.retries, sums.received_bytes) == (3.5, 4, 1, 9)
    assert (sums.rows, sums.successes, sums.reasons["gone"], sums.hosts["a"]) == (6, 4, 2, 2)
    (tmp_path / "00001.tar").write_bytes(b"half")
    with pytest.raises(FileNotFoundError, match="00001 is not whole"):
        totals(tmp_path, [0, 1])


def test_shards_of_rounds_that_are_no_longer_asked_for_are_removed(tmp_path: Path) -> None:
    for number in (0, 1, 2, 100_000):
        _shard(tmp_path, number)
    (tmp_path / "_begun.json").write_text("{}")
    clear_others(tmp_path, [0, 100_000])
    left = {file.name.partition(".")[0].partition("_")[0] for file in tmp_path.glob("[0-9]*")}
    assert left == {"00000", "100000"}
    assert (tmp_path / "_begun.json").exists()


def test_what_decides_how_much_is_asked_for_keeps_what_was_downloaded() -> None:
    download = stage_of("download")
    one = Settings(dedup=DedupSettings(placeholder_urls=5))
    assert download.settings(one)["dedup"] == {"placeholder_urls": 5, "min_quality": 50}
    further = download.further(one)
    assert {"download.rounds", "dedup.placeholder_urls", "dedup.min_quality"} <= further
    assert "download.image_side" not in further
    balance = stage_of("balance")
    assert balance.further(one) == frozenset()
