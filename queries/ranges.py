"""Ranges: dumps cut into ranges of bytes, and the pages that begin in one.

reads   pages-articles XML, plain or bz2
writes  the bytes of each page, and a problem for each that is not whole
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import SEEK_END
from typing import BinaryIO, Literal

from pipeline import inputs, storage
from pipeline.errors import BadInput
from queries.bzip2 import Stretch, blocks, is_packed

REASONS = ("cut off page", "page too long", "unreadable block")
"""Why a page is not given. What an unreadable block held, nobody knows: no page, or many."""

_TAG = re.compile(rb"</?page>")  # text is escaped: neither tag can occur inside of a page
_CLOSING = b"</page>"
_CHUNK = 1 << 20
"""Bytes read at a time."""
_Event = Literal["opens", "closed", "more", "beyond", "unreadable", "end"]
"""A page begins; was closed; more text follows, or only text of other ranges; or no text."""


@dataclass(frozen=True)
class Range:
    """Bytes [begin, end) of a dump, as it is stored."""

    path: str
    begin: int
    end: int


@dataclass(frozen=True)
class Problem:
    """Something that is lost, for one of REASONS."""

    reason: str


def ranges(paths: list[str], split_bytes: int) -> list[Range]:
    """The dumps in ranges of at most `split_bytes`: every byte is in exactly one."""
    found = []
    for path in paths:
        try:
            size = storage.size(storage.place(path))
        except OSError as error:
            raise _unreadable(path, error) from None
        if size is None:
            raise BadInput(f"{path} cannot be read: put it back, or correct the path")
        for begin in range(0, size, split_bytes):
            found.append(Range(path, begin, min(begin + split_bytes, size)))
    return found


def pages_in(part: Range, max_page_bytes: int = 8 * 2**20) -> Iterator[bytes | Problem]:
    """`<page>...</page>` for every page whose first byte, or whose block's, is in the range.

    Over the ranges of a dump, however it is cut, each page comes exactly once and so does each
    problem. Memory: one page of at most `max_page_bytes` and one block.
    """
    inputs.expect(part.path)
    try:
        with _open(part.path) as stream:
            if stream.seek(0, SEEK_END) < part.end:
                raise BadInput(f"{part.path} became shorter while it was read: start again")
            yield from _cut(_stretches(stream, part), max_page_bytes)
    except OSError as error:
        raise _unreadable(part.path, error) from None


def _open(path: str) -> BinaryIO:
    place = storage.place(path)
    return storage.opened(place) if storage.is_remote(place) else place.open("rb", _CHUNK)


def _unreadable(path: str, error: OSError) -> BadInput:
    reason = error.strerror or error
    return BadInput(f"{path} cannot be read ({reason}): put it back, or correct the path")


def _stretches(stream: BinaryIO, part: Range) -> Iterator[Stretch]:
    """The range's text and, while asked, what follows it."""
    if is_packed(stream):
        yield from blocks(stream, part.begin, part.end)
        return
    stream.seek(part.begin)
    at = part.begin
    while text := stream.read(min(_CHUNK, part.end - at) if at < part.end else _CHUNK):
        yield Stretch(text, own=at < part.end)
        at += len(text)


def _cut(stretches: Iterable[Stretch], max_page_bytes: int) -> Iterator[bytes | Problem]:
    """The pages that begin in own text, and the problems.

    What becomes of a page depends on the text from its first byte on, and not on where a stretch
    or a range begins or ends: that is why ranges agree.
    """
    page: list[bytes] | None = None
    size = 0
    for piece, event in _events(stretches):
        if page is not None:
            page.append(piece)
            size += len(piece)
            if size > max_page_bytes:
                yield Problem("page too long")
                page = None
            elif event == "closed":
                yield b"".join(page)
                page = None
            elif event not in ("more", "beyond"):
                yield Problem("cut off page")
                page = None
        if event == "opens":
            page, size = [], 0
        elif event == "unreadable":
            yield Problem("unreadable block")
        elif event == "end" or (event == "beyond" and page is None):
            return


def _events(stretches: Iterable[Stretch]) -> Iterator[tuple[bytes, _Event]]:
    """All of the text in pieces, each with what comes at its end."""
    tail = b""  # of what was searched: a tag may begin in it
    own = 0  # how many of the first bytes, of the tail and then of the text, are the range's
    for stretch in stretches:
        if stretch.text is None:
            yield tail, "unreadable" if stretch.own else "end"
            tail, own = b"", 0
            continue
        text = tail + stretch.text
        own = len(text) if stretch.own else own
        given = 0
        for tag in _TAG.finditer(text):
            if tag[0] == _CLOSING:
                yield text[given : tag.end()], "closed"
            else:
                yield text[given : tag.start()], "opens" if tag.start() < own else "end"
                yield tag[0], "more"
            given = tag.end()
        searched = max(given, len(text) - len(_CLOSING) + 1)
        tail, own = text[searched:], max(0, own - searched)
        yield text[given:searched], "more" if stretch.own or own else "beyond"
    yield tail, "end"
