"""Download: the image behind every drawn pair, or the reason why there is none.

reads   drawn
writes  images: for each raw shard 00000.tar, 00000.parquet, and last 00000_stats.json
"""

import hashlib
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipeline import poison, storage
from pipeline.download import attempts
from pipeline.download.reasons import REASONS
from pipeline.download.task import download_shards
from pipeline.raw_shards import STATS, shard_name, stats_of_whole
from pipeline.settings import DownloadSettings
from pipeline.storage import Place

__all__ = [
    "REASONS",
    "Totals",
    "clear_others",
    "clear_staged",
    "download",
    "raw_files",
    "raw_shards_in",
    "totals",
]

_RESULTS = f"raw_shard int, rows long, successes long, {poison.DDL}"
_NOTED_HOSTS = 20


def download(drawn: DataFrame, folder: str, settings: DownloadSettings) -> DataFrame:
    """One row for each raw shard, downloaded into `folder` when the result is asked for.

    Only rows travel through Spark: the tasks write the images themselves. A row with a `trouble`
    is of a shard that failed at every try.
    """
    tries = poison.tries(drawn.sparkSession)
    found = drawn.agg(F.min("raw_shard").alias("first"), F.max("raw_shard").alias("last")).head()
    first, last = (0, -1) if found is None or found["last"] is None else found

    def tasks(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return download_shards(batches, folder, settings, tries)

    # A later round begins behind the shards of the ones before it.
    laid_out = drawn.repartitionById(max(last - first + 1, 1), F.col("raw_shard") - F.lit(first))
    laid_out = laid_out.sortWithinPartitions("position", "pair_id")
    return laid_out.mapInArrow(tasks, _RESULTS)


@dataclass
class Totals:
    """What some shards of a folder say together."""

    shards: int = 0
    rows: int = 0
    successes: int = 0
    image_bytes: int = 0
    task_seconds: float = 0.0
    requests: int = 0
    retries: int = 0
    connections: int = 0
    received_bytes: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    hosts: Counter[str] = field(default_factory=Counter)
    """Failures of each."""
    asked: Counter[str] = field(default_factory=Counter)
    """Pairs of each of these hosts."""
    digests: list[str] = field(default_factory=list)

    @property
    def content(self) -> str:
        """What the images are known by: another answer of one host is another content."""
        return hashlib.sha256("".join(self.digests).encode()).hexdigest()

    @property
    def worst_hosts(self) -> dict[str, int]:
        """The hosts with the most failures."""
        return dict(self.hosts.most_common(_NOTED_HOSTS))

    @property
    def asked_of_worst(self) -> dict[str, int]:
        """How many pairs they were asked for."""
        return {host: self.asked[host] for host in self.worst_hosts}


def totals(folder: Place, raw_shards: Iterable[int]) -> Totals:
    """The totals of `raw_shards`. Raises FileNotFoundError when one is not there or not whole."""
    sums = Totals()
    names = [shard_name(raw_shard) for raw_shard in sorted(raw_shards)]
    for name, stats in zip(names, _stats_of(folder, names), strict=True):
        if stats is None:
            raise FileNotFoundError(f"raw shard {name} is not whole in {folder}")
        pace = stats["pace"]
        sums.shards += 1
        sums.rows += stats["rows"]
        sums.successes += stats["successes"]
        sums.image_bytes += stats["bytes"]
        sums.task_seconds += pace["seconds"]
        sums.requests += pace["requests"]
        sums.retries += pace["retries"]
        sums.connections += pace["connections"]
        sums.received_bytes += pace["received_bytes"]
        sums.reasons.update(stats["reasons"])
        sums.hosts.update(stats["failed_hosts"])
        sums.asked.update(stats["asked_hosts"])
        sums.digests.append(stats["sha256"])
    return sums


def _stats_of(folder: Place, names: list[str]) -> Iterator[dict[str, Any] | None]:
    if not storage.is_remote(folder):
        yield from (stats_of_whole(folder, name) for name in names)
        return
    # One listing, and no request for each file.
    found = {place.name: size for place, size in storage.sizes(folder)}
    with ThreadPoolExecutor(attempts.THREADS) as pool:
        yield from pool.map(lambda name: stats_of_whole(folder, name, found=found), names)


def raw_files(folder: Place, raw_shards: Iterable[int]) -> list[Place]:
    """The parquet files of `raw_shards`, in their order."""
    return [folder / f"{shard_name(raw_shard)}.parquet" for raw_shard in sorted(raw_shards)]


def raw_shards_in(folder: Place) -> set[int]:
    """The raw shards that a folder tells of, whole or not."""
    names = (place.name for place in _beside(folder))
    return {int(name[: -len(STATS)]) for name in names if name.endswith(STATS)}


def _beside(folder: Place) -> list[Place]:
    if storage.is_remote(folder):
        return storage.files(folder)
    return list(folder.glob(f"[0-9]*{STATS}"))


def clear_staged(folder: Place) -> None:
    """Remove what killed attempts left behind; in a store `clear_others` does it in the end."""
    if storage.is_remote(folder):
        return
    for staged in folder.glob(".[0-9]*-*"):
        shutil.rmtree(staged, ignore_errors=True)


def clear_others(folder: Place, raw_shards: Iterable[int]) -> None:
    """Remove every shard but `raw_shards`: those of rounds that are no longer asked for."""
    if storage.is_remote(folder):
        attempts.clear_others(folder, raw_shards)
        return
    names = {shard_name(raw_shard) for raw_shard in raw_shards}
    others = [path for path in folder.glob("[0-9]*.*") if _shard_of(path) not in names]
    # First what says that a shard is whole.
    for path in sorted(others, key=lambda path: (path.suffix != ".json", path)):
        path.unlink()


def _shard_of(path: Path) -> str:
    return path.stem.partition("_")[0]
