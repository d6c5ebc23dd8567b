"""Pageviews: hourly files -> the views of each title.

reads   lines of `domain title views bytes`, plain or gz
writes  views (title, dropped_for, views, rows)
"""

import gzip
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from io import BufferedReader
from itertools import islice
from urllib.parse import unquote_to_bytes

import pyarrow as pa
from pyspark import Accumulator, AccumulatorParam
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pipeline import inputs
from pipeline.errors import BadInput

_OTHER_NAMESPACE = re.compile(
    r"(?:talk|(?:special|media|wp|wt|mos|h|t|p|user|wikipedia|file|image|mediawiki|template|help|"
    r"category|portal|draft|module|timedtext|book)(?:[ _]talk)?)[ _]*:",
    re.IGNORECASE,
)
_MAIN_PAGE = ("Main Page", "-", "")
_LONGEST_TITLE = 255
"""Bytes, in MediaWiki."""
_MOST_DIGITS = 10
"""Of the views of one hour."""
_ROOM = 1 << 18
"""Distinct titles that a task holds before it hands them on."""
REASONS = (
    "malformed line",
    "other domain",
    "other namespace",
    "main page",
    "unreadable file",
)
"""Why a line of a pageview file says nothing of an article. A file that breaks off is one more."""
VIEWS_DDL = "title string, dropped_for string, views long, rows long"


class _Names(AccumulatorParam[frozenset[str]]):
    def zero(self, _: frozenset[str]) -> frozenset[str]:
        return frozenset()

    def addInPlace(self, one: frozenset[str], other: frozenset[str]) -> frozenset[str]:  # noqa: N802
        return one | other


def check(paths: list[str]) -> None:
    """Raise BadInput for a file that is missing, or of other lines than `domain title views bytes`.

    The first file stands for all: there may be thousands.
    """
    for path, kind in zip(paths, inputs.each(inputs.kind, paths), strict=True):
        if kind != "file":
            raise BadInput(f"derive.pageviews: {path} does not exist: correct the path")
    lines = list(islice(_lines(paths[0]), 1000)) if paths else []
    if lines and all(line is None or _fields(line) is None for line in lines):
        raise BadInput(
            f"derive.pageviews: {paths[0]} holds no line of `domain title views bytes`: name "
            "hourly pageviews (pageviews-20250101-000000.gz), and not those of other formats"
        )


def views(
    spark: SparkSession, paths: list[str], domains: list[str]
) -> tuple[DataFrame, Accumulator[frozenset[str]]]:
    """The titles of the pageview files with their views, and how many `rows` say so; and the files
    that break off, once the first is read.

    Lines that are dropped are one row for each reason, in `dropped_for`.
    """
    broken = spark.sparkContext.accumulator(frozenset[str](), _Names())
    wanted = frozenset(domain.encode() for domain in domains)

    def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch.column(0).to_pylist():
                yield from _counted(paths[number], wanted, broken)

    # Spark's reader would take `[` and `*` in a name for patterns, skip names that begin with `_`,
    # and stop at a file that breaks off.
    tasks = spark.range(0, len(paths), 1, numPartitions=max(1, len(paths)))
    return _summed(tasks.mapInArrow(read, VIEWS_DDL)), broken


def _counted(
    path: str, domains: frozenset[bytes], broken: Accumulator[frozenset[str]]
) -> Iterator[pa.RecordBatch]:
    """The titles of a file, most of them once."""
    seen: Counter[bytes] = Counter()
    rows: Counter[bytes] = Counter()
    dropped: Counter[str] = Counter()
    inputs.expect(path)
    for line in _lines(path):
        fields = None if line is None else _fields(line)
        if line is None:
            broken.add(frozenset([path]))
            dropped["unreadable file"] += 1
        elif fields is None:
            dropped["malformed line"] += 1
        elif fields[0] not in domains:
            dropped["other domain"] += 1
        else:
            seen[fields[1]] += fields[2]
            rows[fields[1]] += 1
            if len(seen) == _ROOM:
                yield from _spelt(seen, rows)
                seen, rows = Counter(), Counter()
    yield from _spelt(seen, rows)
    yield _batch([(None, why, None, count) for why, count in dropped.items()])


def _spelt(seen: Counter[bytes], rows: Counter[bytes]) -> Iterator[pa.RecordBatch]:
    """Titles as Wikipedia spells them, those of no article with the reason."""
    found: list[tuple[str | None, str | None, int | None, int]] = []
    for raw, views in seen.items():
        title = spelt(raw)
        if title is None:
            found.append((None, "malformed line", None, rows[raw]))
        elif title in _MAIN_PAGE:
            found.append((None, "main page", None, rows[raw]))
        elif is_elsewhere(title):
            found.append((None, "other namespace", None, rows[raw]))
        else:
            found.append((title, None, views, rows[raw]))
    yield _batch(found)


def _batch(rows: list[tuple[str | None, str | None, int | None, int]]) -> pa.RecordBatch:
    titles, reasons, views, counts = zip(*rows, strict=True) if rows else ((), (), (), ())
    columns = [pa.array(titles, pa.string()), pa.array(reasons, pa.string())]
    columns += [pa.array(views, pa.int64()), pa.array(counts, pa.int64())]
    return pa.RecordBatch.from_arrays(columns, names=["title", "dropped_for", "views", "rows"])


def _lines(path: str) -> Iterator[bytes | None]:
    """The lines of a file; None at the end of one that breaks off."""
    with inputs.opened(path) as stored:
        is_packed = stored.read(2) == b"\x1f\x8b"
        stored.seek(0)
        with gzip.open(stored) if is_packed else stored as stream:
            try:
                yield from _split(stream)
            except (EOFError, gzip.BadGzipFile, zlib.error):
                yield None


def _split(stream: BufferedReader | gzip.GzipFile) -> Iterator[bytes]:
    rest = b""
    while chunk := stream.read1(1 << 20):  # less, where it breaks off
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
        rest = rest[: 1 << 16]  # no line is so long; what is cut off makes it no better
    if rest:
        yield rest


def _fields(line: bytes) -> tuple[bytes, bytes, int] | None:
    """Domain, title and views; None for a line of another form."""
    parts = line.split(b" ")
    if len(parts) != 4 or not parts[2].isdigit() or not parts[3].strip().isdigit():
        return None
    if len(parts[2]) > _MOST_DIGITS or len(parts[1]) > 3 * _LONGEST_TITLE:  # "%E2" is one byte
        return None
    return parts[0], parts[1], int(parts[2])


def is_elsewhere(title: str) -> bool:
    """Whether a title is of another namespace than that of the articles."""
    return _OTHER_NAMESPACE.match(title) is not None


def spelt(title: bytes) -> str | None:
    """A title as Wikipedia spells it; None for one that is too long to be a title.

    Underscores are spaces, the first letter is a capital; some clients send percent-encoding.
    """
    raw = unquote_to_bytes(title) if b"%" in title else title
    if len(raw) > _LONGEST_TITLE:
        return None
    plain = raw.decode("utf-8", "replace").replace("_", " ").strip()
    first = plain[:1].upper()
    return first + plain[1:] if len(first) == 1 else plain


def _summed(table: DataFrame) -> DataFrame:
    sums = [F.sum(column).alias(column) for column in ("views", "rows")]
    return table.groupBy("title", "dropped_for").agg(*sums)
