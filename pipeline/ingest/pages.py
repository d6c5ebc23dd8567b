"""Pages: the images that the HTML pages of a WARC file show.

reads   a WARC file (HTTP responses; Common Crawl's layout, and that of wget, Heritrix, warcio)
"""

import codecs
import re
import zlib
from collections.abc import Iterator, Mapping

import pyarrow as pa
from lxml import etree

from pipeline.ingest.archives import Record, records_in
from pipeline.ingest.links import (
    LAZY,
    MAX_IMAGES,
    TOO_MANY,
    UNREADABLE_FILE,
    UNREADABLE_RECORD,
    Link,
    Origin,
)
from pipeline.ingest.srcset import is_inline, largest

_MAX_PAGE_BYTES = 5 << 20
"""Of a page, unpacked. Common Crawl cuts off at as much since 2025, and at 1 MiB before."""
_MAX_HEADER_BYTES = 1 << 16
_MAX_DEPTH = 512
"""Of elements, as Blink has it. At an end tag the parser looks through all that are open."""
_BITE_BYTES = 1 << 13
"""Of a page, that the parser is given at a time: within it nothing bounds the depth."""

_TOO_LONG = Link(None, None, reason="page too long")


def links_in_warc(path: str) -> Iterator[Link]:
    """The image links of a WARC file's pages; what cannot be read is a link with a reason."""
    cap = _MAX_PAGE_BYTES + _MAX_HEADER_BYTES
    for record in records_in(path, {"response", "resource"}, cap):
        if record is None:
            yield UNREADABLE_FILE
        else:
            yield from links_of(record)


def links_of(record: Record) -> list[Link]:
    """The image links of a record; none when it holds no page. What is there of a page that is
    cut is read, and the cut is told."""
    headers: Mapping[str, str] = {}
    body = record.block
    if record.kind == "response":
        if not record.is_http:
            return []  # a look-up of a name, say
        found = _HEADER_END.search(body, 0, _MAX_HEADER_BYTES)
        if found is None:
            return [UNREADABLE_RECORD] if record.is_cut or body else []
        headers, body = _headers(body[: found.start()]), body[found.end() :]
    else:
        headers = _headers(record.head)
    told = headers.get("content-type", "")
    kind = told.partition(";")[0].strip().lower()
    if kind and kind not in ("text/html", "application/xhtml+xml"):
        return []
    body, is_broken = unpacked(body, headers)
    if not kind and not _LOOKS_LIKE_HTML.match(body):
        return []
    links = links_in_page(body[:_MAX_PAGE_BYTES], record.target, told)
    if len(body) > _MAX_PAGE_BYTES or (len(record.block) < record.length and not record.is_cut):
        links.append(_TOO_LONG)
    if is_broken or record.is_cut:
        links.append(UNREADABLE_RECORD)
    return links


# -- HTTP ----------------------------------------------------------------------------------

_HEADER_END = re.compile(rb"\r?\n\r?\n")
_LOOKS_LIKE_HTML = re.compile(
    rb"(?is)\s*(?:<!--.{0,1000}?-->\s*)?<(?:!doctype html|html|head|body)"
)
_CHUNK = re.compile(rb"[ \t]*([0-9a-fA-F]{1,8})[ \t]*(?:;[^\r\n]{0,1000})?\r?\n")


def _headers(head: bytes) -> dict[str, str]:
    """Headers by their names in lower case; the first of equal names."""
    headers: dict[str, str] = {}
    for line in head.split(b"\n")[1:]:
        name, _, value = line.partition(b":")
        headers.setdefault(name.strip().lower().decode("latin-1"), value.strip().decode("latin-1"))
    return headers


def unpacked(body: bytes, headers: Mapping[str, str]) -> tuple[bytes, bool]:
    """The body as the server had it before sending, a byte more than a page's limit at most; and
    whether it broke off.

    Some crawlers store it unpacked under the headers of what was sent: such a body stays as it is.
    """
    is_broken = False
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body, is_broken = _joined_chunks(body)
    packings = headers.get("content-encoding", "").lower().split(",")
    # Not more than any server would lay over one another.
    for packing in reversed(packings[:3]):
        name = packing.strip().removeprefix("x-")
        if name == "gzip" and body[:2] == b"\x1f\x8b":
            body, is_cut = _inflated(body, zlib.MAX_WBITS | 16)
        elif name == "deflate" and body and not body.lstrip().startswith(b"<"):
            # Servers disagree whether it has zlib's header.
            has_header = body[0] & 15 == 8 and int.from_bytes(body[:2], "big") % 31 == 0
            body, is_cut = _inflated(body, zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)
        elif name == "br" and not body.lstrip().startswith(b"<"):
            body, is_cut = _decoded(body, "brotli")
        elif name == "zstd" and body[:4] == b"\x28\xb5\x2f\xfd":
            body, is_cut = _decoded(body, "zstd")
        else:
            continue
        is_broken |= is_cut
    return body, is_broken


def _joined_chunks(body: bytes) -> tuple[bytes, bool]:
    chunks: list[bytes] = []
    at = 0
    while found := _CHUNK.match(body, at):
        size = int(found[1], 16)
        if not size:
            return b"".join(chunks), False
        chunks.append(body[found.end() : found.end() + size])
        at = found.end() + size
        while body[at : at + 1] in (b"\r", b"\n"):
            at += 1
    return (b"".join(chunks), True) if chunks else (body, False)


def _inflated(body: bytes, bits: int) -> tuple[bytes, bool]:
    inflate = zlib.decompressobj(bits)
    pieces: list[bytes] = []
    left = _MAX_PAGE_BYTES + 1
    # A block at a time, so that what came before an error is not lost.
    for at in range(0, len(body), 4096):
        try:
            pieces.append(inflate.decompress(body[at : at + 4096], left))
        except zlib.error:
            return b"".join(pieces), True
        left -= len(pieces[-1])
        if left <= 0 or inflate.eof:
            return b"".join(pieces), False
    return b"".join(pieces), True


def _decoded(body: bytes, codec: str) -> tuple[bytes, bool]:
    pieces: list[bytes] = []
    left = _MAX_PAGE_BYTES + 1
    try:
        # What one read would give is lost with the error it ends in.
        with pa.CompressedInputStream(pa.BufferReader(body), codec) as stream:
            while left > 0 and (piece := stream.read(min(left, 1 << 10))):
                pieces.append(piece)
                left -= len(piece)
    except (OSError, pa.ArrowException):
        return b"".join(pieces), True
    return b"".join(pieces), False


# -- charset -------------------------------------------------------------------------------

_CHARSET = re.compile(r"(?i)charset\s*=\s*[\"']?\s*([^\s\"';,>]+)")
_META = re.compile(rb"(?i)<meta[\s/][^>]{0,1000}?charset\s*=\s*[\"']?\s*([^\s\"'/;>]+)")
_COMMENT = re.compile(rb"(?s)<!--.*?-->")
_PRESCAN_BYTES = 1024
"""In which a page must tell its encoding (HTML, 13.2.3.2)."""

# What web pages are written in (WHATWG Encoding, 4.2); Python knows more, and some that are no
# encodings of text at all. Labels mean what browsers take them for.
_CODECS = {
    **{name: name for name in ("utf-8", "koi8-r", "koi8-u", "macintosh", "gb18030", "iso-2022-jp")},
    **{f"iso-8859-{n}": f"iso-8859-{n}" for n in (2, 3, 4, 5, 6, 7, 8, 10, 13, 14, 15, 16)},
    **{f"windows-{n}": f"cp{n}" for n in (874, *range(1250, 1259))},
    **{f"cp{n}": f"cp{n}" for n in (866, 1250, 1251, 1252, 1253, 1254, 1256, 1257)},
    **dict.fromkeys(("utf8", "unicode-1-1-utf-8", "utf_8"), "utf-8"),
    **dict.fromkeys(("iso-8859-1", "latin1", "latin-1", "ascii", "us-ascii", "l1"), "cp1252"),
    **dict.fromkeys(("iso8859-1", "iso_8859-1", "x-cp1252", "x-user-defined"), "cp1252"),
    **dict.fromkeys(("iso-8859-9", "latin5", "iso8859-9"), "cp1254"),
    **dict.fromkeys(("iso-8859-11", "tis-620"), "cp874"),
    **dict.fromkeys(("iso-8859-8-i", "logical"), "iso-8859-8"),
    **dict.fromkeys(("latin2", "iso8859-2"), "iso-8859-2"),
    **dict.fromkeys(("gb2312", "gbk", "x-gbk", "gb_2312-80", "chinese"), "gb18030"),
    **dict.fromkeys(("big5", "big5-hkscs", "x-x-big5"), "big5hkscs"),
    **dict.fromkeys(("shift_jis", "shift-jis", "sjis", "x-sjis", "windows-31j"), "cp932"),
    **dict.fromkeys(("euc-jp", "x-euc-jp"), "euc-jp"),
    **dict.fromkeys(("euc-kr", "ks_c_5601-1987", "ksc5601", "windows-949"), "cp949"),
    **dict.fromkeys(("utf-16", "utf-16le", "unicode", "ucs-2"), "utf-16-le"),
    "utf-16be": "utf-16-be",
    "koi8": "koi8-r",
    "koi8-ru": "koi8-u",
    "ibm866": "cp866",
    "mac": "macintosh",
    "x-mac-cyrillic": "mac-cyrillic",
}


def text_of(body: bytes, content_type: str) -> str:
    """A page's text: by its byte order mark, else by its header, else as it says itself, else
    UTF-8 when it is that, else windows-1252. Bytes that are no text are replaced."""
    for mark, codec in (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ):
        if body.startswith(mark):
            return body[len(mark) :].decode(codec, "replace")
    told = _CHARSET.search(content_type)
    found = _CODECS.get(told[1].lower()) if told else None
    if found is None:
        meta = _META.search(_COMMENT.sub(b"", body[:_PRESCAN_BYTES]))
        found = _CODECS.get(meta[1].decode("latin-1").lower()) if meta else None
        if found is not None and found.startswith("utf-16"):
            found = "utf-8"  # it could not have been read
    if found is not None:
        return body.decode(found, "replace")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        # A cut at the end may go through a character.
        is_cut = error.start >= len(body) - 3 and error.reason == "unexpected end of data"
        return body.decode("utf-8" if is_cut else "cp1252", "replace")


# -- HTML ----------------------------------------------------------------------------------


def links_in_page(body: bytes, page_url: str, content_type: str = "") -> list[Link]:
    """The image links of an HTML page, resolved against its page; entities are read, once."""
    page = text_of(body, content_type).encode("utf-8", "replace")
    if not page.strip():
        return []
    images = _Images()
    parser = _parser(images)
    at = 0
    try:
        while at < len(page):
            end = at + _BITE_BYTES
            end = max(page.rfind(b"<", at + 1, end), 0) or end
            parser.feed(page[at:end])
            at = end
            if images.depth > _MAX_DEPTH:
                # What is open is forgotten, and no image is lost: the next bite begins with a tag,
                # or at worst with a `<` in some text.
                parser.close()
                parser = _parser(images)
        parser.close()
    except etree.LxmlError:
        return [*images.links(page_url), UNREADABLE_RECORD]
    return images.links(page_url)


def _parser(images: "_Images") -> etree.HTMLParser:
    # Of the parser only the tags are used: a tree costs time that grows with the square of
    # attributes.
    images.depth = 0
    return etree.HTMLParser(encoding="utf-8", target=images, no_network=True)


class _Images:
    """What a parser finds of images, tag by tag."""

    def __init__(self) -> None:
        self.depth = 0
        """Of the elements that are open."""
        self._found: list[tuple[str | None, str | None]] = []
        self._base: str | None = None
        self._sources: list[str] | None = None
        """The candidates of the <picture> that is open."""
        self._beyond = 0

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        self.depth += 1
        if tag in ("img", "image"):
            # <image> is an old name of <img> (HTML, 13.2.6.4.7), and a shape of SVG, without src.
            if tag == "img" or "src" in attributes:
                self._take(attributes)
        elif tag == "base":
            if self._base is None:
                self._base = attributes.get("href")
        elif tag == "picture":
            self._sources = []
        elif tag == "source" and self._sources is not None:
            self._sources += filter(None, map(attributes.get, ("srcset", "data-srcset")))

    def end(self, tag: str) -> None:
        self.depth -= 1
        if tag == "picture":
            self._sources = None

    def close(self) -> None:
        pass

    def _take(self, attributes: Mapping[str, str]) -> None:
        if len(self._found) == MAX_IMAGES:
            self._beyond += 1
            return
        caption = attributes.get("alt") or attributes.get("title")
        self._found.append((_address(attributes, self._sources), caption))
        self._sources = None  # a <picture> shows one

    def links(self, page_url: str) -> list[Link]:
        origin = Origin(page_url, self._base)
        links = [
            Link(origin.resolve(url) if url else None, caption, origin.page_url)
            for url, caption in self._found
        ]
        return links + [TOO_MANY] * self._beyond


def _address(attributes: Mapping[str, str], sources: list[str] | None) -> str | None:
    """Where an image is: what a script will load, else src, else the largest that is offered."""
    for name in (*LAZY, "src"):
        address = attributes.get(name)
        if address and not is_inline(address.lstrip()) and not address.isspace():
            return address
    for name in ("srcset", "data-srcset", "data-lazy-srcset"):
        offered = attributes.get(name)
        address = largest(offered) if offered else None
        if address:
            return address
    return (largest(", ".join(sources)) if sources else None) or attributes.get("src")
