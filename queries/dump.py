"""Dump: Wikipedia's pages-articles XML -> pages, with their text where they are articles.

reads   pages-articles XML, plain or bz2, in ranges
writes  pages (dump, kind, title, target, text, is_mended)
"""

import bz2
import contextlib
import re
from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from pipeline import inputs
from pipeline.errors import BadInput
from pipeline.text import fold, unescape
from queries import ranges, wikitext
from queries.bzip2 import is_packed
from queries.ranges import Problem

PAGES = pa.schema(
    [
        pa.field("dump", pa.int32()),
        pa.field("kind", pa.string()),
        pa.field("title", pa.string()),
        pa.field("target", pa.string()),
        pa.field("text", pa.string()),
        pa.field("is_mended", pa.bool_()),
    ]
)
PROBLEMS = ranges.REASONS
"""What can become of a page that is not whole."""

_DBNAME = re.compile(r"<dbname>([^<]*)</dbname>")
_REDIRECT = re.compile(rb'<redirect title="([^"]*)"')
_REDIRECTS = re.compile(rb"\s*#redirect\s*:?\s*\[\[([^\]|#\n]+)", re.IGNORECASE)
"""What old exports have in the text of a redirect, and no tag."""
_TEXT = re.compile(rb"<text\b[^>]*?(/?)>")
_HEAD_BYTES = 200_000
_BATCH_BYTES = 4 << 20
"""Text of one batch, about."""


class Page(NamedTuple):
    """A page of a dump, or what went wrong with one."""

    kind: str
    """article, redirect, other namespace, no title, no text; or one of PROBLEMS."""
    title: str | None = None
    target: str | None = None
    """Where a redirect leads."""
    text: str | None = None
    """What a reader sees of an article, folded, a paragraph a line, with a line end behind it."""
    is_mended: bool = False
    """Whether bytes that are no UTF-8 were replaced."""


def pages(spark: SparkSession, paths: list[str], dbname: str, split_bytes: int) -> DataFrame:
    """Every page of the dumps. Raises BadInput for a dump that is missing or of another wiki."""
    for path in paths:
        _check(path, dbname)
    # Neither of Spark's readers will do: its XML source never splits bz2, and Hadoop's codec
    # decodes it at a quarter of the speed of Python's.
    parts = ranges.ranges(paths, split_bytes)
    places = {path: place for place, path in enumerate(paths)}

    def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch.column(0).to_pylist():
                part = parts[number]
                yield from _batches(places[part.path], ranges.pages_in(part))

    tasks = spark.range(0, len(parts), 1, numPartitions=max(1, len(parts)))
    return tasks.mapInArrow(read, from_arrow_schema(PAGES))


def _check(path: str, dbname: str) -> None:
    if inputs.kind(path) != "file":
        raise BadInput(f"derive.dumps: {path} does not exist: correct the path in the settings")
    head = _head(path)
    if not head:  # damaged from its first block on: what is behind may be whole
        return
    if "<page>" not in head and "<mediawiki" not in head:
        raise BadInput(f"derive.dumps: {path} is not a MediaWiki XML dump in UTF-8")
    found = _DBNAME.search(head)
    if found is not None and found[1] != dbname:
        raise BadInput(
            f"derive.dumps: {path} is a dump of {found[1]}, not of {dbname}: "
            f"name another dump, or set derive.dbname = {found[1]!r}"
        )


def _head(path: str) -> str:
    """The first of a dump's text, as far as it can be read."""
    head = b""
    with (
        contextlib.suppress(OSError, EOFError),
        inputs.opened(path) as stored,
        bz2.open(stored) if is_packed(stored) else stored as stream,
    ):
        # A block that is damaged takes with it all that was asked for at once.
        while len(head) < _HEAD_BYTES and (more := stream.read(4096)):
            head += more
    return head.decode("utf-8", "replace")


def _batches(dump: int, found: Iterator[bytes | Problem]) -> Iterator[pa.RecordBatch]:
    rows: list[Page] = []
    size = 0
    for page in found:
        rows.append(Page(page.reason) if isinstance(page, Problem) else parse(page))
        size += 200 + len(rows[-1].text or "")
        if size > _BATCH_BYTES:
            yield _batch(dump, rows)
            rows, size = [], 0
    if rows:
        yield _batch(dump, rows)


def _batch(dump: int, rows: list[Page]) -> pa.RecordBatch:
    columns = [[dump] * len(rows), *zip(*rows, strict=True)]
    arrays = [pa.array(column, kind) for column, kind in zip(columns, PAGES.types, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=PAGES)


def parse(page: bytes) -> Page:
    """A page from its XML; of one with its history, the last revision."""
    title = _between(page, b"<title>", b"</title>")
    if not title:
        return Page("no title")
    name = _decoded(title)
    if _between(page, b"<ns>", b"</ns>") not in (b"0", None):
        return Page("other namespace", name)
    redirect = _REDIRECT.search(page)
    if redirect is not None:
        return Page("redirect", name, _decoded(redirect[1]))
    begin = _TEXT.search(page, max(0, page.rfind(b"<text")))
    if begin is None or begin[1]:
        return Page("no text", name)
    end = page.rfind(b"</text>")
    raw = page[begin.end() : end if end >= 0 else len(page)]
    if not raw.strip():
        return Page("no text", name)
    redirect = _REDIRECTS.match(raw)
    if redirect is not None:
        return Page("redirect", name, _decoded(redirect[1]).strip())
    for entity, character in (
        (b"&lt;", b"<"),
        (b"&gt;", b">"),
        (b"&quot;", b'"'),
        (b"&amp;", b"&"),
    ):
        raw = raw.replace(entity, character)
    shown = wikitext.shown(raw)
    try:
        text, is_mended = shown.decode(), False
    except UnicodeDecodeError:
        text, is_mended = shown.decode("utf-8", "replace"), True
    return Page("article", name, None, fold(unescape(text)) + "\n", is_mended)


def _decoded(title: bytes) -> str:
    return unescape(title.decode("utf-8", "replace"))


def _between(page: bytes, opening: bytes, closing: bytes) -> bytes | None:
    begin = page.find(opening)
    end = page.find(closing, begin)
    return page[begin + len(opening) : end] if 0 <= begin < end else None
