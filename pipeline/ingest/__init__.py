"""Ingest: (url, caption) candidates from crawls and tables, cleaned, each pair once.

reads   WAT and WARC files, url+caption tables
writes  candidates
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from pyspark import Accumulator, AccumulatorParam, TaskContext
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from pipeline.ingest import blocklists, clean, quality, sending, sources
from pipeline.ingest.rows import Part
from pipeline.schemas import CANDIDATES
from pipeline.settings import IngestSettings

REASONS = (
    "unreadable file",
    "unreadable record",
    "unreadable link",
    "unreadable row",
    "too many images",
    "page too long",
    *clean.REASONS,
    "another caption of the url",
)

PerSource = dict[str, Counter[str]]
"""Of each source: its links, those that are fit, and those that are not by reason."""

_ROWS = pa.schema(
    [
        pa.field("key", pa.string()),
        *clean.CLEAN,
        pa.field("reason", pa.string()),
        pa.field("rows", pa.int64()),
    ]
)
_KINDS = {pa.string(): "string", pa.float32(): "float", pa.int64(): "long"}
_ROWS_DDL = ", ".join(f"{field.name} {_KINDS[field.type]}" for field in _ROWS)


def ingest(spark: SparkSession, settings: IngestSettings) -> tuple[DataFrame, PerSource]:
    """Candidates, and what each source gave.

    A row with `dropped_for` stands for `rows` links that were dropped for it; another for as many
    equal ones. The counts of the sources are filled while the candidates are written: they are of
    links as they are read, before equal pairs meet.

    Raises BadInput when there is no source, one is missing or lacks its columns, or a blocklist
    or the filter model cannot be read.
    """
    parts = sources.sources_of(spark, settings)
    blocklists.load(settings)
    quality.model_of(settings)
    found = _SourceCounts(list(parts))
    told: Accumulator[Any] = spark.sparkContext.accumulator({}, found)

    sent = sending.send(spark, settings)

    def clean_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        sending.receive(sent)
        return _clean_batches(batches, settings, told)

    def clean_parts(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return clean_batches(sources.read(batches))

    todo: dict[bool, list[tuple[int, Part]]] = {False: [], True: []}
    for place, some in enumerate(parts.values()):
        for part, is_large in zip(some, sources.are_large(some), strict=True):
            todo[is_large].append((place, part))
    rows = sources.tasks(spark, todo[False]).mapInArrow(clean_parts, _ROWS_DDL)
    if todo[True]:
        links = sources.tasks(spark, todo[True]).mapInArrow(sources.read, sources.LINKS_DDL)
        shared = links.repartition("url", "caption")
        rows = rows.unionByName(shared.mapInArrow(clean_batches, _ROWS_DDL))
    rows = _one_caption(_each_pair_once(rows), settings)
    return rows.select(*CANDIDATES.names, "dropped_for", "rows"), found.sums


# -- cleaning ------------------------------------------------------------------------------


def _clean_batches(
    batches: Iterator[pa.RecordBatch], settings: IngestSettings, told: "Accumulator[Any]"
) -> Iterator[pa.RecordBatch]:
    counts: Counter[tuple[int, str | None]] = Counter()
    for batch in batches:
        pairs, reasons = clean.clean_links(batch, settings)
        counts.update(zip(batch.column("source").to_pylist(), reasons, strict=True))
        yield _rows(len(pairs), {"key": pairs.column("pair_id"), **_columns(pairs)}, 1)

    dropped: Counter[str] = Counter()
    for (_, reason), links in counts.items():
        if reason is not None:
            dropped[reason] += links
    # All that are dropped for a reason share a key, and meet in one row.
    reasons_told = pa.array(list(dropped), pa.string())
    keys = pa.array([f"-{reason}" for reason in dropped], pa.string())
    yield _rows(len(dropped), {"key": keys, "reason": reasons_told}, list(dropped.values()))
    task = TaskContext.get()
    told.add({task.partitionId() if task is not None else 0: counts})


def _columns(batch: pa.RecordBatch) -> dict[str, Any]:
    return {name: batch.column(name) for name in batch.schema.names}


def _rows(size: int, columns: dict[str, Any], rows: int | list[int]) -> pa.RecordBatch:
    columns["rows"] = pa.array([rows] * size if isinstance(rows, int) else rows, pa.int64())
    arrays = [columns.get(field.name, pa.nulls(size, field.type)) for field in _ROWS]
    return pa.RecordBatch.from_arrays(arrays, schema=_ROWS)


class _SourceCounts(AccumulatorParam[Any]):
    """Adds what each partition counted, once, however often it was made."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self.sums: PerSource = {name: Counter(links=0, fit=0) for name in names}

    def zero(self, value: Any) -> Any:  # noqa: ARG002 - Spark's own signature
        return {}

    def addInPlace(self, value1: Any, value2: Any) -> Any:  # noqa: N802 - Spark's own name
        for partition, counts in value2.items():
            if partition in value1:
                continue
            value1[partition] = counts
            for (source, reason), links in counts.items():
                of_source = self.sums[self._names[source]]
                of_source["links"] += links
                of_source[reason or "fit"] += links
        return value1


# -- equal pairs, and other captions -------------------------------------------------------


def _each_pair_once(rows: DataFrame) -> DataFrame:
    """Rows of one key as one. The shortest url stays, then the first in the alphabet, and of its
    pages the first."""
    behind = [name for name in _ROWS.names if name not in ("key", "url", "page_url", "rows")]
    first = F.struct(
        F.length("url").alias("chars"),
        "url",
        F.col("page_url").isNull().alias("has_no_page"),
        "page_url",
        *behind,
    )
    rows = rows.groupBy("key").agg(F.min(first).alias("pair"), F.sum("rows").alias("rows"))
    return rows.select("key", "pair.*", "rows").withColumnRenamed("reason", "dropped_for")


def _one_caption(rows: DataFrame, settings: IngestSettings) -> DataFrame:
    """The rows, with a reason for all captions of an address but the one that is wanted."""
    if settings.captions_per_url == "all":
        return rows
    score = F.col("filter_score") if settings.captions_per_url == "best" else F.lit(0)
    in_order = [score.desc(), F.length("caption").desc(), F.col("caption")]
    # The rows of the dropped have no address, and stay as they are.
    of_address = Window.partitionBy(F.coalesce("address", "key")).orderBy(*in_order)
    is_another = F.row_number().over(of_address) > 1
    reason = F.when(is_another, "another caption of the url")
    return rows.withColumn("dropped_for", F.coalesce("dropped_for", reason))
