"""Tables: the pairs of parquet files, CSV, TSV and JSON lines.

reads   tables of addresses and captions
"""

import codecs
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession

from pipeline.errors import BadInput
from pipeline.ingest.columns import format_of, layout_of
from pipeline.ingest.crawls import LINKS_DDL, as_batch
from pipeline.ingest.quotes import Stretch, first_rows, follow
from pipeline.ingest.rows import Layout, Part, batches_in
from pipeline.settings import TableSource

_PART_BYTES = 64 << 20
"""Of plain text, or of parquet unpacked, that one task reads."""


def table_links(spark: SparkSession, source: TableSource) -> DataFrame:
    """The rows of a table as links: url, caption, page_url and, where one could not be read, the
    reason. Raises BadInput when a file is missing, unreadable or lacks its columns."""
    files = [(path, layout) for path in _files(source) if (layout := layout_of(path, source))]
    if not files:
        raise BadInput(f"ingest.tables: {source.path} holds no rows: fetch or write it again")
    parts = [part for path, layout in files for part in _parts(spark, path, layout)]
    told = [(msgspec.json.encode(part).decode(),) for part in parts]
    rows = spark.sparkContext.parallelize(told, max(1, len(told)))
    links = spark.createDataFrame(rows, "part string").mapInArrow(_read, LINKS_DDL)
    # What is packed is read by one task, however large: others share the work behind it.
    is_large = any(p.stop < 0 and Path(p.path).stat().st_size > _PART_BYTES for p in parts)
    return links.repartition("url", "caption") if is_large else links


def _read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for told in batch.column("part").to_pylist():
            for columns in batches_in(msgspec.json.decode(told, type=Part)):
                yield as_batch(columns)


# -- files ---------------------------------------------------------------------------------


def _files(source: TableSource) -> list[Path]:
    """The files of a table; of a folder those of one format, parquet before text."""
    path = Path(source.path)
    if path.is_file():
        return [path]
    found = sorted(
        file for file in path.rglob("*") if file.is_file() and not _is_hidden(file, path)
    )
    if source.format is None:
        formats = {format_of(file) for file in found} - {None}
        wanted = "parquet" if "parquet" in formats else min(formats, default=None, key=str)
        found = [file for file in found if wanted and format_of(file) == wanted]
        if wanted != "parquet" and len(formats) > 1:
            told = " and ".join(sorted(str(name) for name in formats))
            raise BadInput(
                f"ingest.tables: {path} holds files of several formats ({told}): say which are "
                "meant with `format = ...` beside the path in the settings"
            )
    else:
        found = [file for file in found if format_of(file) in (source.format, None)]
    if not found:
        what = "holds no table" if path.is_dir() else "does not exist"
        raise BadInput(f"ingest.tables: {path} {what} (parquet, csv, tsv, jsonl): correct the path")
    return found


def _is_hidden(file: Path, folder: Path) -> bool:
    """Spark and others leave such files beside a table."""
    return any(part.startswith(("_", ".")) for part in file.relative_to(folder).parts)


def _parts(spark: SparkSession, path: Path, layout: Layout) -> list[Part]:
    """The parts of a file, one for each task."""
    if layout.form == "parquet":
        return _row_groups(path, layout)
    size = path.stat().st_size
    if layout.packing is not None or size <= _PART_BYTES:
        return [Part(str(path), layout, 0, -1)]
    starts = list(range(0, size, _PART_BYTES))
    if layout.form == "text" and layout.has_quotes:
        cuts = spark.sparkContext.parallelize(starts, len(starts))
        name, separator, length = str(path), layout.separator, _PART_BYTES
        stretches = cuts.map(lambda start: _stretch(name, start, length, separator)).collect()
        rows = first_rows(stretches)
        starts = [start + row for start, row in zip(starts, rows, strict=True)]
    stops = [*starts[1:], size]
    cut = zip(starts, stops, strict=True)
    return [Part(str(path), layout, start, stop) for start, stop in cut if start < stop]


def _stretch(path: str, start: int, length: int, separator: str) -> Stretch:
    with Path(path).open("rb") as stream:
        stream.seek(start)
        return follow(stream.read(length).removeprefix(codecs.BOM_UTF8), separator)


def _row_groups(path: Path, layout: Layout) -> list[Part]:
    footer = pq.read_metadata(path)
    parts: list[Part] = []
    begin, size = 0, 0
    for group in range(footer.num_row_groups):
        size += footer.row_group(group).total_byte_size
        if size >= _PART_BYTES or group == footer.num_row_groups - 1:
            parts.append(Part(str(path), layout, begin, group + 1))
            begin, size = group + 1, 0
    return parts
