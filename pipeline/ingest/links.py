"""Links: the images that a WAT file's pages show.

reads   a WAT file (WARC metadata records of JSON; Common Crawl's layout)
"""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urljoin

from fastwarc.warc import ArchiveIterator, WarcRecordType

from pipeline.text import encodable


class Link(NamedTuple):
    """An image as a page or a table shows it, before any cleaning."""

    url: str | None
    caption: str | None
    page_url: str | None
    reason: str | None = None


def links_in_wat(path: str) -> Iterator[Link]:
    """The image links of a WAT file; a record that cannot be read is a link with a reason.

    A file that breaks off is a link with a reason too: what comes behind a broken gzip member
    cannot be found again, and the file ends there.
    """
    with gzip.open(path) if path.endswith(".gz") else Path(path).open("rb") as stream:
        tail = _Tail(stream)
        try:
            for record in _records(tail):
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


def _records(stream: Any) -> ArchiveIterator:
    return ArchiveIterator(stream, record_types=WarcRecordType.metadata)


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
    # JSON can say \ud83d alone.
    return encodable(value) if isinstance(value, str) else None


def _joined(base: str, url: str) -> str:
    try:
        return urljoin(base, url.strip())
    except ValueError:
        return url
