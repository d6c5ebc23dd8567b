"""Ingest: (url, caption) candidates from crawls and tables, cleaned, each pair once.

reads   WAT files, url+caption tables
writes  candidates
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pipeline.errors import BadInput
from pipeline.ingest.clean import clean, pair_id
from pipeline.ingest.links import Link, links_in_wat
from pipeline.schemas import CANDIDATES
from pipeline.settings import IngestSettings, TableSource

REASONS = (
    "unreadable record",
    "unreadable file",
    "no url",
    "not http",
    "url too long",
    "no caption",
    "caption too short",
    "caption too long",
    "language",
)

_URL_COLUMNS = ("url", "URL", "image_url", "imageUrl", "image", "thumbnailUrl")
_CAPTION_COLUMNS = ("caption", "TEXT", "text", "alt", "alt_text", "title")
_LINKS_DDL = "url string, caption string, page_url string, reason string"
_LINKS = pa.schema([pa.field(name, pa.string()) for name in Link._fields])
_CLEAN = pa.schema(
    [
        pa.field("key", pa.string()),
        *[field.with_nullable(True) for field in CANDIDATES],
        pa.field("reason", pa.string()),
        pa.field("rows", pa.int64()),
    ]
)
_CLEAN_DDL = (
    "key string, pair_id string, url string, caption string, page_url string, "
    "language string, language_score float, reason string, rows long"
)


def ingest(spark: SparkSession, settings: IngestSettings) -> DataFrame:
    """Candidates; a row with `dropped_for` stands for `rows` links that were dropped for it.

    Raises BadInput when there is no source, or one is missing or lacks its columns.
    """
    if not settings.wats and not settings.tables:
        raise BadInput("ingest: no source: name `ingest.wats` or `ingest.tables` in the settings")
    sources = [table_links(spark, source) for source in settings.tables]
    if settings.wats:
        sources.append(wat_links(spark, settings.wats))
    links = sources[0]
    for source in sources[1:]:
        links = links.unionByName(source)
    clean = links.mapInArrow(lambda batches: _clean_batches(batches, settings), _CLEAN_DDL)

    # The dropped share one key for each reason and were summed by batch, so they cost nothing;
    # equal pairs meet here, and the page that comes first in the alphabet stays.
    kept = F.struct("page_url", *[f.name for f in CANDIDATES if f.name != "page_url"], "reason")
    clean = clean.groupBy("key").agg(F.min(kept).alias("pair"), F.sum("rows").alias("rows"))
    return clean.select(
        *[f"pair.{name}" for name in CANDIDATES.names],
        F.col("pair.reason").alias("dropped_for"),
        "rows",
    )


# -- sources -------------------------------------------------------------------------------


def table_links(spark: SparkSession, source: TableSource) -> DataFrame:
    """The rows of a parquet table as links."""
    path = Path(source.path)
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    files = [file for file in files if file.is_file()]
    if not files:
        raise BadInput(f"ingest.tables: no parquet file at {path}: correct the path")
    columns = [_columns_of(file, source) for file in files]
    for file, found in zip(files, columns, strict=True):
        if found != columns[0]:
            raise BadInput(
                f"ingest.tables: {file} has the columns {' and '.join(found)}, but {files[0]} has "
                f"{' and '.join(columns[0])}: name them as two tables in the settings"
            )
    url, caption = columns[0]
    table = spark.read.parquet(*[str(file) for file in files])
    nothing = F.lit(None).cast("string")
    # Bytes that are no UTF-8 would stop the Python worker; a caption may hold some.
    return table.select(
        F.make_valid_utf8(F.col(f"`{url}`").cast("string")).alias("url"),
        F.make_valid_utf8(F.col(f"`{caption}`").cast("string")).alias("caption"),
        nothing.alias("page_url"),
        nothing.alias("reason"),
    )


def _columns_of(file: Path, source: TableSource) -> tuple[str, str]:
    """The columns of addresses and of captions in one file."""
    try:
        names = pq.read_schema(file).names
    except (OSError, pa.ArrowInvalid) as error:
        raise BadInput(
            f"ingest.tables: {file} is not a whole parquet file ({error}): write it again"
        ) from None
    return (
        _column(source, "url", source.url, _URL_COLUMNS, names),
        _column(source, "caption", source.caption, _CAPTION_COLUMNS, names),
    )


def _column(
    source: TableSource, what: str, named: str | None, usual: tuple[str, ...], has: list[str]
) -> str:
    wanted = (named,) if named is not None else usual
    for name in wanted:
        if name in has:
            return name
    raise BadInput(
        f"ingest.tables: {source.path} has no column {' or '.join(wanted)} (it has "
        f"{', '.join(has)}): name it with `{what} = ...` beside the path in the settings"
    )


def wat_links(spark: SparkSession, paths: list[str]) -> DataFrame:
    """The images of WAT files as links, one task a file."""
    for path in paths:
        if not Path(path).is_file():
            raise BadInput(f"ingest.wats: {path} does not exist: correct the path")
    names = spark.createDataFrame([(path,) for path in paths], "path string")
    names = names.repartitionByRange(len(paths), "path")
    return names.mapInArrow(_read_wats, _LINKS_DDL)


def _read_wats(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for path in batch.column("path").to_pylist():
            links: list[Link] = []
            for link in links_in_wat(path):
                links.append(link)
                if len(links) >= 4096:
                    yield _batch(links)
                    links = []
            yield _batch(links)


def _batch(links: list[Link]) -> pa.RecordBatch:
    columns = [pa.array([link[i] for link in links], pa.string()) for i in range(len(_LINKS))]
    return pa.RecordBatch.from_arrays(columns, schema=_LINKS)


# -- cleaning ------------------------------------------------------------------------------


def _clean_batches(
    batches: Iterator[pa.RecordBatch], settings: IngestSettings
) -> Iterator[pa.RecordBatch]:
    dropped: Counter[str] = Counter()
    for batch in batches:
        rows: list[tuple[Any, ...]] = []
        for url, caption, page_url, reason in zip(
            *(batch.column(name).to_pylist() for name in Link._fields), strict=True
        ):
            pair = clean(Link(url, caption, page_url, reason), settings)
            if pair.reason is not None:
                dropped[pair.reason] += 1
                continue
            key = pair_id(pair.url, pair.caption)
            rows.append(
                (key, key, pair.url, pair.caption, page_url, pair.language, pair.language_score)
            )
        yield _clean_batch([(*row, None, 1) for row in rows])
    yield _clean_batch(
        [(f"-{reason}", *[None] * 6, reason, count) for reason, count in sorted(dropped.items())]
    )


def _clean_batch(rows: list[tuple[Any, ...]]) -> pa.RecordBatch:
    columns = [pa.array([row[i] for row in rows], field.type) for i, field in enumerate(_CLEAN)]
    return pa.RecordBatch.from_arrays(columns, schema=_CLEAN)
