"""Crawls: the images of Common Crawl's files, one task a file.

reads   WAT and WARC files
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from pipeline.errors import BadInput
from pipeline.ingest.links import Link, as_columns, links_in_wat
from pipeline.ingest.pages import links_in_warc

LINKS = pa.schema([pa.field(name, pa.string()) for name in Link._fields])
LINKS_DDL = ", ".join(f"{name} string" for name in Link._fields)


def crawl_links(spark: SparkSession, wats: list[str], warcs: list[str]) -> DataFrame:
    """The images of WAT and of WARC files: url, caption, page_url and, where one could not be read,
    the reason. Raises BadInput when a file is missing."""
    for setting, paths in (("wats", wats), ("warcs", warcs)):
        for path in paths:
            if not Path(path).is_file():
                what = "is a folder" if Path(path).is_dir() else "does not exist"
                raise BadInput(f"ingest.{setting}: {path} {what}: name its files")
    files = [("wat", path) for path in wats] + [("warc", path) for path in warcs]
    rows = spark.sparkContext.parallelize(files, max(1, len(files)))
    named = spark.createDataFrame(rows, "kind string, path string")
    return named.mapInArrow(_read, LINKS_DDL)


def _read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for file in batch.to_pylist():
            read = links_in_wat if file["kind"] == "wat" else links_in_warc
            for columns in as_columns(read(file["path"])):
                yield as_batch(columns)


def as_batch(columns: list[Any]) -> pa.RecordBatch:
    """Columns of links as rows of LINKS."""
    arrays = [pa.array(column, pa.string()) for column in columns]
    return pa.RecordBatch.from_arrays(arrays, schema=LINKS)
