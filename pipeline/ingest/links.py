"""Links: the images that a WAT file's pages show.

reads   a WAT file (WARC metadata records of JSON; Common Crawl's layout)
"""

import html
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple
from urllib.parse import urljoin, urlsplit

import msgspec

from pipeline.ingest.archives import records_in
from pipeline.text import encodable

_MAX_RECORD_BYTES = 1 << 25
"""A page's record is some ten thousand bytes; Common Crawl cuts pages off at a few million."""
MAX_IMAGES = 5000
"""Of one page. Galleries show some hundreds."""
BATCH_ROWS, BATCH_CHARS = 4096, 1 << 23
"""Of links that travel together."""
LAZY = ("data-src", "data-original", "data-lazy-src")
"""Where scripts that load pictures late find them: lazysizes, jQuery Lazy Load, WP Rocket."""
_IMAGES = frozenset(f"IMG@/{name}" for name in ("src", *LAZY))
"""What of an <img> is a picture. Common Crawl's extractor tells `src` with alt and title, and
`longdesc`, `background`, `data-href` and `data-uri`, which are none."""


class Link(NamedTuple):
    """An image as a page or a table shows it, before any cleaning."""

    url: str | None
    caption: str | None
    page_url: str | None = None
    reason: str | None = None


UNREADABLE_RECORD = Link(None, None, reason="unreadable record")
"""A record that is cut, or is not what it must be."""
UNREADABLE_LINK = Link(None, None, reason="unreadable link")
"""One among the links of a record that is none."""
UNREADABLE_FILE = Link(None, None, reason="unreadable file")
"""A place where a file is broken: what stood there is lost, and cannot be counted."""

TOO_MANY = Link(None, None, reason="too many images")
"""An image of a page beyond MAX_IMAGES."""


def as_columns(links: Iterable[Link]) -> Iterator[list[Any]]:
    """Links as columns url, caption, page_url, reason, some thousand at a time, or fewer when they
    are long."""
    rows: list[Link] = []
    chars = 0
    for link in links:
        rows.append(link)
        chars += sum(len(text) for text in link if text)
        if len(rows) == BATCH_ROWS or chars > BATCH_CHARS:
            yield list(zip(*rows, strict=True))
            rows, chars = [], 0
    if rows:
        yield list(zip(*rows, strict=True))


def links_in_wat(path: str) -> Iterator[Link]:
    """The image links of a WAT file; what cannot be read is a link with a reason."""
    for record in records_in(path, {"metadata"}, _MAX_RECORD_BYTES):
        if record is None:
            yield UNREADABLE_FILE
        elif len(record.block) < record.length:
            yield UNREADABLE_RECORD
        else:
            yield from links_in(record.block)


# -- one record ----------------------------------------------------------------------------


class _Link(msgspec.Struct):
    path: str | None = None
    url: str | None = None
    alt: str | None = None
    title: str | None = None


class _Head(msgspec.Struct, rename="pascal"):
    base: str | None = None


class _Html(msgspec.Struct, rename="pascal"):
    head: _Head | None = None
    links: list[_Link] | None = None


class _Response(msgspec.Struct, rename={"html": "HTML-Metadata"}):
    html: _Html | None = None


class _Payload(msgspec.Struct, rename={"response": "HTTP-Response-Metadata"}):
    response: _Response | None = None


class _Header(msgspec.Struct, rename={"target": "WARC-Target-URI"}):
    target: str | None = None


class _Envelope(
    msgspec.Struct, rename={"header": "WARC-Header-Metadata", "payload": "Payload-Metadata"}
):
    header: _Header
    payload: _Payload


class _Metadata(msgspec.Struct, rename="pascal"):
    envelope: _Envelope


_DECODE = msgspec.json.Decoder(_Metadata).decode


def links_in(payload: bytes) -> list[Link]:
    """The image links of one WAT record's payload, resolved against its page."""
    try:
        envelope = _DECODE(payload).envelope
    except (ValueError, RecursionError):
        # What the quick way refuses may still be read: half a surrogate pair, a stray byte, NaN,
        # an alt that is a number.
        return _links_in_any(payload)
    page = envelope.payload.response and envelope.payload.response.html
    images = [link for link in page.links if link.path in _IMAGES] if page and page.links else []
    if not page or not images:
        return []
    base = page.head.base if page.head else None
    origin = Origin(envelope.header.target, reference(base) if base else None)
    resolve, page_url = origin.resolve, origin.page_url
    return [
        Link(resolve(reference(link.url)) if link.url else None, link.alt or link.title, page_url)
        for link in images[:MAX_IMAGES]
    ] + [TOO_MANY] * (len(images) - MAX_IMAGES)


def _links_in_any(payload: bytes) -> list[Link]:
    """The same of any payload, field by field."""
    try:
        envelope = _object(json.loads(payload.decode("utf-8", "replace")))["Envelope"]
        page_url = _text(_object(envelope["WARC-Header-Metadata"]).get("WARC-Target-URI"))
        response = _object(_object(envelope["Payload-Metadata"]).get("HTTP-Response-Metadata"))
        page = _object(response.get("HTML-Metadata"))
        base = _text(_object(page.get("Head")).get("Base"))
        links = page.get("Links")
        if not isinstance(links, list | None):
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError):
        return [UNREADABLE_RECORD]
    origin = Origin(page_url, reference(base) if base else None)
    resolve, page_url = origin.resolve, origin.page_url
    found: list[Link] = []
    rest: list[Link] = []
    for link in links or []:
        if not isinstance(link, dict) or not isinstance(link.get("path"), str | None):
            rest.append(UNREADABLE_LINK)
        elif link.get("path") not in _IMAGES:
            continue
        elif len(found) == MAX_IMAGES:
            rest.append(TOO_MANY)
        else:
            url = _text(link.get("url"))
            caption = _text(link.get("alt")) or _text(link.get("title"))
            found.append(Link(resolve(reference(url)) if url else None, caption, page_url))
    return found + rest


def _object(value: Any) -> dict[str, Any]:
    """A JSON object; one that is not there is empty."""
    if not isinstance(value, dict | None):
        raise TypeError
    return value or {}


def _text(value: Any) -> str | None:
    # JSON can say \ud83d alone.
    return encodable(value) if isinstance(value, str) else None


# -- addresses -----------------------------------------------------------------------------

# `&copy=1` in an address is no sign (HTML, 13.2.5.73): only what ends in a semicolon is read.
_REFERENCE = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")


def reference(url: str) -> str:
    """An address as the page means it: Common Crawl leaves `&amp;` as the page wrote it."""
    if "&" not in url:
        return url
    return encodable(_REFERENCE.sub(lambda found: html.unescape(found[0]), url))


_MAX_ORIGIN_CHARS = 1 << 13
"""It is repeated in every link of its page; browsers and servers take about as much."""
_SPACE = "\t\n\f\r "
_LINE = str.maketrans("", "", "\t\n\r")
# Anything else may have a scheme, dots to follow or a query that replaces the page's own.
_PLAIN = re.compile(r"[\w%~@!$&'()*+,=-][^:\\#]*", re.ASCII)


class Origin:
    """What the addresses of a page are relative to: its <base href> when it has one (HTML, 4.2.3),
    itself relative to the page."""

    def __init__(self, page_url: str | None, base: str | None) -> None:
        is_fit = page_url is not None and len(page_url) <= _MAX_ORIGIN_CHARS
        self.page_url = page_url if is_fit else None
        self.url = self.page_url or ""
        if base and len(base) <= _MAX_ORIGIN_CHARS:
            self.url = _joined(self.url, base.translate(_LINE).strip(_SPACE))
        self._scheme = self._root = self._folder = ""
        try:
            parts = urlsplit(self.url)
        except ValueError:
            return
        if parts.scheme in ("http", "https") and parts.netloc and "/." not in parts.path:
            self._scheme = f"{parts.scheme}:"
            self._root = f"{parts.scheme}://{parts.netloc}"
            self._folder = self._root + (parts.path[: parts.path.rfind("/") + 1] or "/")

    def resolve(self, url: str) -> str:
        """`url` as an absolute address; as it stands when that cannot be made of it."""
        url = url.strip(_SPACE)
        if not url.isprintable():
            url = url.translate(_LINE)
        # The usual ones, which need no parsing: `urljoin` says the same of them.
        if url.startswith(("http://", "https://")):
            return url
        if self._root and "/." not in url:
            if url.startswith("//"):
                if url[2:3] not in ("", "/", "?", "#"):
                    return self._scheme + url
            elif url.startswith("/"):
                return self._root + url
            elif _PLAIN.fullmatch(url):
                return self._folder + url
        return _joined(self.url, url)


def _joined(base: str, url: str) -> str:
    try:
        return urljoin(base, url)
    except ValueError:
        return url
