"""Archives: the records of a WARC file, as far as they can be read.

reads   a WARC file (ISO 28500), plain or gz; Common Crawl's WARC and WAT files are such
"""

import re
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from zlib_ng import zlib_ng as _zlib_ng

from pipeline import inputs

zlib_ng: Any = _zlib_ng  # its stubs know neither `copy` nor that `error` can be caught

_BLOCK = 1 << 14
"""Bytes of a file that are inflated at a time: what is left over is copied for every member."""
_PIECE = 1 << 20
"""Bytes of a member that are inflated before they are passed on; a page's record has fewer."""
_MAX_HEAD = 1 << 16
"""Bytes of a record's own header. The longest hold two addresses of a few thousand bytes."""
_STEP = 64
"""Bytes that are inflated at a time where an error is near: so many are lost before it."""
_MAX_BREAKS = 1000
"""Broken members after which a file is given up: it is no archive, and each costs a search."""

_GZIP = b"\x1f\x8b\x08"
_BEGIN = b"WARC/"
_END = b"\r\n\r\n"
"""What every record ends with (ISO 28500, 6.1)."""
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_KIND = re.compile(rb"(?im)^warc-type:[ \t]*([a-z]+)")
_LENGTH = re.compile(rb"(?im)^content-length:[ \t]*([0-9]{1,15})[ \t]*\r?$")
_TARGET = re.compile(rb"(?im)^warc-target-uri:[ \t]*<?([^\r\n>]*)")
_HTTP = re.compile(rb"(?im)^content-type:[ \t]*application/http")


class Record(NamedTuple):
    """A record; `block` is its content up to a cap, `is_cut` says that the file holds less."""

    kind: str
    head: bytes
    block: bytes
    length: int
    """Bytes that the record says it holds."""
    is_cut: bool

    @property
    def target(self) -> str:
        """The address that the record is about, or an empty string."""
        found = _TARGET.search(self.head)
        return found[1].strip().decode("utf-8", "replace") if found else ""

    @property
    def is_http(self) -> bool:
        return _HTTP.search(self.head) is not None


def records_in(path: str, kinds: set[str], max_block_bytes: int) -> Iterator[Record | None]:
    """The records of some kinds; None for every place where the file is broken.

    Nothing that stands before such a place is lost, and reading goes on behind it: in a gz file
    at the next member that begins with a record, else at the next line that looks like one. Time
    is linear in the bytes that are inflated, memory in `max_block_bytes`.
    """
    with inputs.opened(path) as stream:
        is_packed = stream.read(len(_GZIP)) == _GZIP
        stream.seek(0)
        source = _Source(_inflated(stream) if is_packed else _plain(stream))
        while True:
            head = source.head()
            if head is None:
                if source.is_broken:
                    yield None
                if not source.go_on():
                    return
                continue
            length = _LENGTH.search(head) if head.startswith(_BEGIN) else None
            if length is None:
                yield None
                source.seek_record(head)
                continue
            found = _KIND.search(head)
            kind = found[1].decode().lower() if found else ""
            is_wanted = kind in kinds
            block, missing = source.take(int(length[1]), max_block_bytes if is_wanted else 0)
            if is_wanted:
                yield Record(kind, head, block, int(length[1]), missing > 0)


# -- bytes ---------------------------------------------------------------------------------

_Piece = tuple[bytes, bool]
"""Bytes, and whether a gzip member begins with them; None between two is a break."""


def _plain(stream: BinaryIO) -> Iterator[_Piece | None]:
    while piece := stream.read(_PIECE):
        yield piece, False


def _inflated(stream: BinaryIO) -> Iterator[_Piece | None]:
    """What the members of a gz file hold."""
    packed, member_at, breaks = stream.read(_BLOCK), 0, 0
    while packed:
        member = _Member(stream, packed)
        yield from member.pieces()
        if member.is_broken:
            yield None
            breaks += 1
            if breaks == _MAX_BREAKS:
                return
            # Not from the member's own start, or nested ones would be read again and again.
            member_at = max(member_at + 1, stream.tell() - _BLOCK)
            if not _seek_member(stream, member_at):
                return
            member.rest = b""
        packed = member.rest or stream.read(_BLOCK)
        # Zeros may fill up a file behind its last member, as they do on tapes.
        while packed and not (packed := packed.lstrip(b"\0")):
            packed = stream.read(_BLOCK)
        member_at = stream.tell() - len(packed)


class _Member:
    """A member of a gz file that begins with `rest`, the stream standing behind that."""

    def __init__(self, stream: BinaryIO, rest: bytes) -> None:
        self._stream = stream
        self.rest = rest
        self.is_broken = False

    def pieces(self) -> Iterator[_Piece]:
        inflate = zlib_ng.decompressobj(zlib_ng.MAX_WBITS | 16)
        before = None
        is_first = True
        while not inflate.eof and not self.is_broken:
            held: list[bytes] = []
            size = 0
            # A member of a page is held until its checksum is known.
            while size < _PIECE:
                try:
                    held.append(inflate.decompress(self.rest, _PIECE - size))
                except zlib_ng.error as error:
                    self.is_broken = True
                    if is_first and "incorrect" in str(error):
                        return  # some byte of it is wrong, and nobody can say which
                    held.append(_before_error(before, self.rest))
                    size += len(held[-1])
                    break
                size += len(held[-1])
                self.rest = inflate.unconsumed_tail
                if inflate.eof:
                    break
                before = inflate.copy()
                if not self.rest and size < _PIECE:
                    self.rest = self._stream.read(_BLOCK)
                    if not self.rest:
                        self.is_broken = True
                        break
            if size:
                yield b"".join(held), is_first
                is_first = False
        if not self.is_broken:
            self.rest = inflate.unused_data


def _before_error(inflate: Any, packed: bytes) -> bytes:
    """What can be inflated of a block that has an error in it."""
    inflate = inflate or zlib_ng.decompressobj(zlib_ng.MAX_WBITS | 16)
    held: list[bytes] = []
    try:
        for at in range(0, len(packed), _STEP):
            held.append(inflate.decompress(packed[at : at + _STEP]))
    except zlib_ng.error:
        pass
    return b"".join(held)


def _seek_member(stream: BinaryIO, start: int) -> bool:
    """Stand at the first member from `start` on that begins with a record."""
    at = start
    while True:
        stream.seek(at)
        block = stream.read(_PIECE)
        found = block.find(_GZIP)
        while found >= 0:
            stream.seek(at + found)
            try:
                inflate = zlib_ng.decompressobj(zlib_ng.MAX_WBITS | 16)
                is_record = inflate.decompress(stream.read(512), len(_BEGIN)) == _BEGIN
            except zlib_ng.error:
                is_record = False
            if is_record:
                stream.seek(at + found)
                return True
            found = block.find(_GZIP, found + 1)
        if len(block) < _PIECE:
            return False
        at += _PIECE - len(_GZIP) + 1


class _Source:
    """The pieces of a file as bytes to take from; a stretch ends where a record cannot go on."""

    def __init__(self, pieces: Iterator[_Piece | None]) -> None:
        self._pieces = pieces
        self._held = b""
        self._at = 0
        self._next = b""
        self._is_over = False
        self._ended_well = False
        self.is_broken = False

    def _fill(self) -> bool:
        """Hold more bytes. False where the stretch ends."""
        if self._next or self._is_over or self.is_broken:
            return False
        piece = next(self._pieces, (b"", False))
        if piece is None:
            self.is_broken = True
            return False
        self._is_over = not piece[0]
        if piece[1] and piece[0].startswith(_BEGIN):
            # A record that has not ended here is cut: members of a page stand for themselves.
            self._next = piece[0]
            return False
        self._held = self._held[self._at :] + piece[0]
        self._at = 0
        return not self._is_over

    def go_on(self) -> bool:
        """Begin the next stretch. False at the end of the file."""
        self._ended_well |= self.is_broken  # what is told once is not told again
        self.is_broken = False
        if self._next:
            self._held, self._at, self._next = self._next, 0, b""
            return True
        self._held, self._at = b"", 0
        return not self._is_over

    def head(self) -> bytes | None:
        """The header of the next record, or what stands in its place; None at a stretch's end."""
        searched = 0
        while True:
            while self._held[self._at : self._at + 1] in (b"\r", b"\n"):
                self._at += 1
            begin = self._at + max(0, searched - len(_END))
            found = _HEAD_END.search(self._held, begin, self._at + _MAX_HEAD)
            if found:
                head = self._held[self._at : found.end()]
                self._at = found.end()
                return head
            searched = len(self._held) - self._at
            if searched >= _MAX_HEAD:
                return b""
            if not self._fill():
                break
        # A stretch ends behind a whole record, and so does a file, or something is lost.
        has_more = searched > 0
        ends_early = self._is_over and not self._ended_well
        self.is_broken |= has_more or ends_early
        return None

    def take(self, length: int, cap: int) -> tuple[bytes, int]:
        """The next `length` bytes, not more than `cap` of them; and how many are missing."""
        parts: list[bytes] = []
        wanted, left = min(length, cap), length
        while left:
            part = self._held[self._at : self._at + left]
            if not part:
                if not self._fill():
                    break
                continue
            self._at += len(part)
            left -= len(part)
            if wanted > 0:
                parts.append(part[:wanted])
                wanted -= len(part)
        while len(self._held) - self._at < len(_END) and self._fill():
            pass
        self._ended_well = self._held[self._at : self._at + len(_END)] == _END
        return b"".join(parts), left

    def seek_record(self, head: bytes) -> None:
        """Stand at the next line that looks like the beginning of a record, behind a bad `head`."""
        self._ended_well = True
        # Its last line end may stand before the record that is sought; if it is none at all, the
        # record may stand in it.
        self._at -= 1 if head.startswith(_BEGIN) else len(head)
        if not head and self._held.startswith(_BEGIN, self._at):
            # No header ends in all of what was searched, so none that begins there needs a look.
            self._at += _MAX_HEAD - len(_BEGIN)
        while True:
            found = self._held.find(b"\n" + _BEGIN, self._at)
            if found >= 0:
                self._at = found + 1
                return
            self._at = max(self._at, len(self._held) - len(_BEGIN))
            if not self._fill():
                self._at = len(self._held)
                return
