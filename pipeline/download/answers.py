"""Answers: what a response's status and headers mean, and its body as it was before encoding."""

import zlib
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime

from pipeline.download.reasons import FetchError

REDIRECTS = frozenset({301, 302, 303, 307, 308})

_STATUS_REASONS: Mapping[int, str] = {
    401: "forbidden",
    403: "forbidden",
    404: "not found",
    408: "timeout",
    410: "gone",
    429: "too many requests",
    451: "forbidden",
}
# Directives that carry a colon of their own; before any other colon stands a robot's name.
_WITH_VALUE = frozenset(
    {"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"}
)
_NOT_IMAGES = frozenset(
    {
        "application/javascript",
        "application/json",
        "application/pdf",
        "application/xhtml+xml",
        "application/xml",
        "application/zip",
        "image/svg+xml",
        "text/css",
        "text/html",
        "text/javascript",
        "text/xml",
    }
)
_MAX_ENCODINGS = 2
_HEADER_BYTES = 2


def check_status(status: int, headers: Message) -> None:
    """Raises FetchError unless the status is 200 or a redirect."""
    if status == 200 or status in REDIRECTS:
        return
    default = "server error" if 500 <= status < 600 else "http error"
    raise FetchError(
        _STATUS_REASONS.get(status, default),
        f"status {status}",
        may_pass=status in (408, 425, 429) or status >= 500,
        wait_seconds=retry_after(headers),
    )


def retry_after(headers: Message) -> float:
    """Seconds the site asks us to wait: `Retry-After` as a number or as a date."""
    text = (headers.get("Retry-After") or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return 0.0
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max((at - datetime.now(UTC)).total_seconds(), 0.0)


def check_opt_out(headers: Message, user_agent: str, honoured: Collection[str]) -> None:
    """Raises FetchError when the site reserves the image in one of the `honoured` ways.

    X-Robots-Tag: Google Search Central, "Robots meta tag"; noai and noimageai: DeviantArt, 2022;
    tdm-reservation: W3C TDM Reservation Protocol, section "HTTP response header".
    """
    reserved = "tdm-reservation" in honoured
    if reserved and (headers.get("tdm-reservation") or "").strip() == "1":
        raise FetchError("opted out", "tdm-reservation")
    us = user_agent.split("/")[0].strip().lower()
    for line in headers.get_all("X-Robots-Tag", []):
        directive = _opt_out_in(str(line), us, honoured)
        if directive:
            raise FetchError("opted out", f"x-robots-tag {directive}")


def _opt_out_in(line: str, us: str, honoured: Collection[str]) -> str | None:
    """The directive of an X-Robots-Tag that keeps us out: `noai`, `somebot: noindex, nofollow`."""
    is_for_us = True
    for part in line.lower().split(","):
        name, colon, rest = (piece.strip() for piece in part.partition(":"))
        if colon and name not in _WITH_VALUE:
            is_for_us = name in ("*", us)
            name = rest
        if is_for_us and name in honoured:
            return name
    return None


def check_type(headers: Message) -> None:
    """Raises FetchError for a type that is surely no picture; a missing or vague one passes."""
    if headers.get("Content-Type") is None:
        return
    kind = headers.get_content_type()
    if kind in _NOT_IMAGES or headers.get_content_maintype() in ("audio", "video"):
        raise FetchError("not an image", kind)


class Decoder:
    """A body as it was before its Content-Encoding, block by block."""

    def __init__(self, encodings: list[str], max_bytes: int) -> None:
        self._layers = [_Inflated(max_bytes) for _ in encodings]

    def feed(self, block: bytes) -> bytes:
        """What another block says. Raises FetchError."""
        for layer in self._layers:
            block = layer.feed(block)
        return block

    def finish(self) -> None:
        """The body is at its end. Raises FetchError when its encoding is not."""
        for layer in self._layers:
            layer.finish()


def decoder(headers: Message, max_bytes: int) -> Decoder | None:
    """What undoes the encodings that `headers` name, if any. Raises FetchError for unknown ones."""
    encodings = [
        name
        for line in headers.get_all("Content-Encoding", [])
        for name in (part.strip().lower() for part in str(line).split(","))
        if name not in ("", "identity", "none")
    ]
    if len(encodings) > _MAX_ENCODINGS:
        raise FetchError("undecodable", "content-encoding of many layers")
    for name in encodings:
        if name not in ("gzip", "x-gzip", "deflate"):
            raise FetchError("undecodable", f"content-encoding {name}")
    return Decoder(encodings[::-1], max_bytes) if encodings else None


class _Inflated:
    def __init__(self, max_bytes: int) -> None:
        # 47: gzip or zlib, by the header. Some servers send deflate without one: -15.
        self._inflater = zlib.decompressobj(47)
        self._left, self._head, self._is_sure = max_bytes, b"", False

    def feed(self, block: bytes) -> bytes:
        if not self._is_sure:
            self._head += block
            if len(self._head) < _HEADER_BYTES:
                return b""
            block = self._head
        try:
            plain = self._inflater.decompress(block, self._left + 1)
        except zlib.error:
            if self._is_sure:
                raise FetchError("undecodable", "content-encoding") from None
            self._inflater = zlib.decompressobj(-15)
            plain = self._raw(block)
        self._is_sure = True
        self._left -= len(plain)
        if self._left < 0:
            raise FetchError("too large", "after decompression")
        return plain

    def _raw(self, block: bytes) -> bytes:
        try:
            return self._inflater.decompress(block, self._left + 1)
        except zlib.error:
            raise FetchError("undecodable", "content-encoding") from None

    def finish(self) -> None:
        if not self._inflater.eof:
            raise FetchError("incomplete", "compressed body", may_pass=True)
