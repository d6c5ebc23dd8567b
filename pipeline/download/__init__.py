"""Download: the image behind every drawn pair, or the reason why there is none.

reads   drawn
writes  images: for each raw shard 00000.tar, 00000.parquet, and last 00000_stats.json
"""

import hashlib
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipeline.download.reasons import REASONS
from pipeline.download.task import download_shards, shard_name, stats_of_whole
from pipeline.settings import DownloadSettings

__all__ = [
    "REASONS",
    "Totals",
    "clear_others",
    "clear_staged",
    "download",
    "raw_files",
    "totals",
]

_RESULTS = "raw_shard int, rows long, successes long"
_NOTED_HOSTS = 20


def download(drawn: DataFrame, folder: str, settings: DownloadSettings) -> DataFrame:
    """One row for each raw shard, downloaded into `folder` when the result is asked for.

    Only rows travel through Spark: the tasks write the images themselves.
    """
    found = drawn.agg(F.min("raw_shard").alias("first"), F.max("raw_shard").alias("last")).head()
    first, last = (0, -1) if found is None or found["last"] is None else found

    def tasks(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return download_shards(batches, folder, settings)

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


def totals(folder: Path, raw_shards: Iterable[int]) -> Totals:
    """The totals of `raw_shards`. Raises FileNotFoundError when one is not there or not whole."""
    sums = Totals()
    for raw_shard in sorted(raw_shards):
        name = shard_name(raw_shard)
        stats = stats_of_whole(folder, name)
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


def raw_files(folder: Path, raw_shards: Iterable[int]) -> list[Path]:
    """The parquet files of `raw_shards`, in their order."""
    return [folder / f"{shard_name(raw_shard)}.parquet" for raw_shard in sorted(raw_shards)]


def clear_staged(folder: Path) -> None:
    """Remove what killed attempts left behind."""
    for staged in folder.glob(".[0-9]*-*"):
        shutil.rmtree(staged, ignore_errors=True)


def clear_others(folder: Path, raw_shards: Iterable[int]) -> None:
    """Remove every shard but `raw_shards`: those of rounds that are no longer asked for."""
    names = {shard_name(raw_shard) for raw_shard in raw_shards}
    others = [path for path in folder.glob("[0-9]*.*") if _shard_of(path) not in names]
    # First what says that a shard is whole.
    for path in sorted(others, key=lambda path: (path.suffix != ".json", path)):
        path.unlink()


def _shard_of(path: Path) -> str:
    return path.stem.partition("_")[0]
