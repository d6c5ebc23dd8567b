"""Dump: Wikipedia's pages-articles XML -> pages, with their text where they are articles.

reads   pages-articles XML, plain or bz2
writes  pages (kind, title, target, text)
"""

import bz2
import html
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from pipeline.errors import BadInput
from queries.wikitext import strip

PAGES = pa.schema(
    [
        pa.field("kind", pa.string()),
        pa.field("title", pa.string()),
        pa.field("target", pa.string()),
        pa.field("text", pa.string()),
    ]
)
KINDS = ("article", "redirect", "other namespace", "no page", "no text")
"""What a stretch of a dump can be. `no page` is the tail behind the last page."""

_TITLE = re.compile(r"<title>([^<]*)</title>")
_NAMESPACE = re.compile(r"<ns>(-?\d+)</ns>")
_REDIRECT = re.compile(r'<redirect title="([^"]*)"')
_TEXT = re.compile(r"<text\b[^>]*?(?<!/)>(.*?)(?:</text>|\Z)", re.DOTALL)
_DBNAME = re.compile(r"<dbname>([^<]*)</dbname>")
_HEAD_BYTES = 200_000


def pages(spark: SparkSession, paths: list[str], dbname: str) -> DataFrame:
    """Every page of the dumps. Raises BadInput for a missing dump or one of another wiki."""
    for path in paths:
        _check(path, dbname)
    # Spark's XML source never splits bz2. A text source cut at the closing tag does, at every
    # split size, and one unescape is then all the XML there is.
    chunks = spark.read.format("text").option("lineSep", "</page>\n").load(paths)
    schema = "kind string, title string, target string, text string"
    return chunks.mapInArrow(_parse_batches, schema)


def _check(path: str, dbname: str) -> None:
    if not Path(path).is_file():
        raise BadInput(f"derive.dumps: {path} does not exist: correct the path in the settings")
    opener = bz2.open if path.endswith(".bz2") else open
    try:
        with opener(path, "rb") as stream:
            head = stream.read(_HEAD_BYTES).decode("utf-8", "replace")
    except (OSError, EOFError) as error:
        raise BadInput(f"derive.dumps: {path} cannot be read ({error}): fetch it again") from None
    if "<page>" not in head and "<mediawiki" not in head:
        raise BadInput(f"derive.dumps: {path} is not a MediaWiki XML dump")
    found = _DBNAME.search(head)
    if found is not None and found[1] != dbname:
        raise BadInput(
            f"derive.dumps: {path} is a dump of {found[1]}, not of {dbname}: "
            f"name another dump, or set derive.dbname = {found[1]!r}"
        )


def _parse_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        rows = [parse(chunk) for chunk in batch.column("value").to_pylist()]
        columns = zip(*rows, strict=True)
        arrays = [
            pa.array(column, pa_type) for column, pa_type in zip(columns, PAGES.types, strict=True)
        ]
        yield pa.RecordBatch.from_arrays(arrays, schema=PAGES)


def parse(chunk: str) -> tuple[str, str | None, str | None, str | None]:
    """One stretch of a dump, up to a page's end: its kind, title, redirect target and text."""
    title = _TITLE.search(chunk)
    namespace = _NAMESPACE.search(chunk)
    if title is None:
        return "no page", None, None, None
    name = html.unescape(title[1])
    if namespace is not None and namespace[1] != "0":
        return "other namespace", name, None, None
    redirect = _REDIRECT.search(chunk)
    if redirect is not None:
        return "redirect", name, html.unescape(redirect[1]), None
    text = _TEXT.search(chunk)
    if text is None:
        return "no text", name, None, None
    return "article", name, None, strip(html.unescape(text[1]))
