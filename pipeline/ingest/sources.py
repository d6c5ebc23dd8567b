"""Sources: the files that candidates come from, cut into parts, a task each.

reads   WAT and WARC files, tables of addresses and captions
"""

import codecs
from collections.abc import Iterator

import msgspec
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from pipeline import inputs, storage
from pipeline.errors import BadInput
from pipeline.ingest.columns import format_of, layout_of
from pipeline.ingest.links import Link
from pipeline.ingest.quotes import Stretch, first_rows, follow
from pipeline.ingest.rows import Layout, Part, batches_in, parquet
from pipeline.settings import IngestSettings, TableSource

_PART_BYTES = 64 << 20
"""Of plain text, or of parquet unpacked, that one task reads."""

LINKS = pa.schema(
    [*(pa.field(name, pa.string()) for name in Link._fields), pa.field("source", pa.int32())]
)
LINKS_DDL = ", ".join(f"{name} string" for name in Link._fields) + ", source int"


def sources_of(spark: SparkSession, settings: IngestSettings) -> dict[str, list[Part]]:
    """The parts of each source, under its name in the counts.

    Raises BadInput when there is none, or a file is missing, unreadable or lacks its columns.
    """
    found: dict[str, list[Part]] = {}
    for table in settings.tables:
        found.setdefault(table.path, []).extend(table_parts(spark, table))
    for form, paths in (("wat", settings.wats), ("warc", settings.warcs)):
        if paths:
            found[f"ingest.{form}s"] = crawl_parts(form, paths)
    if not found:
        raise BadInput(
            "ingest: no source: name `ingest.wats`, `ingest.warcs` or `ingest.tables` in the "
            "settings"
        )
    return found


def crawl_parts(form: str, paths: list[str]) -> list[Part]:
    """Files of Common Crawl, `wat` or `warc`: a part each."""
    for path, kind in zip(paths, inputs.each(inputs.kind, paths), strict=True):
        if kind != "file":
            what = "is a folder" if kind == "folder" else "does not exist"
            raise BadInput(f"ingest.{form}s: {path} {what}: name its files")
    return [Part(path, Layout(form), 0, -1) for path in paths]


def table_parts(spark: SparkSession, source: TableSource) -> list[Part]:
    """The files of a table, large ones in several parts."""
    files = _files(source)
    layouts = inputs.each(lambda file: layout_of(storage.place(file), source), files)
    found = [(file, layout) for file, layout in zip(files, layouts, strict=True) if layout]
    if not found:
        raise BadInput(f"ingest.tables: {source.path} holds no rows: fetch or write it again")
    return [part for file, layout in found for part in _parts(spark, file, layout)]


def are_large(parts: list[Part]) -> list[bool]:
    """Whether each is a packed text, which only one task can read, and much work for others behind
    it."""
    packed = [part.path for part in parts if part.layout.packing is not None]
    sizes = dict(zip(packed, inputs.each(_size, packed), strict=True))
    return [sizes.get(part.path, 0) > _PART_BYTES for part in parts]


# -- tasks ---------------------------------------------------------------------------------


def tasks(spark: SparkSession, parts: list[tuple[int, Part]]) -> DataFrame:
    """Parts, with the places of their sources, a partition each."""
    told = [(source, msgspec.json.encode(part).decode()) for source, part in parts]
    rows = spark.sparkContext.parallelize(told, max(1, len(told)))
    return spark.createDataFrame(rows, "source int, part string")


def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The links of tasks: url, caption, page_url and, where one could not be read, the reason."""
    for batch in batches:
        for task in batch.to_pylist():
            for columns in batches_in(msgspec.json.decode(task["part"], type=Part)):
                texts = [pa.array(column, pa.string()) for column in columns]
                source = pa.repeat(pa.scalar(task["source"], pa.int32()), len(texts[0]))
                yield pa.RecordBatch.from_arrays([*texts, source], schema=LINKS)


# -- files ---------------------------------------------------------------------------------


def _files(source: TableSource) -> list[str]:
    """The files of a table; of a folder those of one format, parquet before text."""
    path = source.path
    kind = inputs.kind(path)
    if kind == "file":
        return [path]
    folder = storage.place(path)
    found = [file for file in storage.files(folder) if not storage.is_hidden(folder, file)]
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
        what = "does not exist" if kind is None else "holds no table"
        raise BadInput(f"ingest.tables: {path} {what} (parquet, csv, tsv, jsonl): correct the path")
    return [str(file) for file in found]


def _parts(spark: SparkSession, path: str, layout: Layout) -> list[Part]:
    """The parts of a file, one for each task."""
    if layout.form == "parquet":
        return _row_groups(path, layout)
    size = _size(path)
    if layout.packing is not None or size <= _PART_BYTES:
        return [Part(path, layout, 0, -1)]
    starts = list(range(0, size, _PART_BYTES))
    if layout.form == "text" and layout.has_quotes:
        cuts = spark.sparkContext.parallelize(starts, len(starts))
        separator, length = layout.separator, _PART_BYTES
        stretches = cuts.map(lambda start: _stretch(path, start, length, separator)).collect()
        rows = first_rows(stretches)
        starts = [start + row for start, row in zip(starts, rows, strict=True)]
    stops = [*starts[1:], size]
    cut = zip(starts, stops, strict=True)
    return [Part(path, layout, start, stop) for start, stop in cut if start < stop]


def _size(path: str) -> int:
    return storage.size(storage.place(path)) or 0


def _stretch(path: str, start: int, length: int, separator: str) -> Stretch:
    inputs.expect(path)
    with inputs.opened(path) as stream:
        stream.seek(start)
        text = stream.read(length)
        return follow(text if start else text.removeprefix(codecs.BOM_UTF8), separator)


def _row_groups(path: str, layout: Layout) -> list[Part]:
    with parquet(path) as file:
        footer = file.metadata
    parts: list[Part] = []
    begin, size = 0, 0
    for group in range(footer.num_row_groups):
        size += footer.row_group(group).total_byte_size
        if size >= _PART_BYTES or group == footer.num_row_groups - 1:
            parts.append(Part(path, layout, begin, group + 1))
            begin, size = group + 1, 0
    return parts
