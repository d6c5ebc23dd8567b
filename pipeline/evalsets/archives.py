"""Archives: the members of a tar, plain or packed, and where their bytes lie.

POSIX ustar and pax, GNU's long names. Read here rather than by `tarfile`, which ends without a word
where a tar breaks off at a header, and takes as much memory as a header asks for.
"""

import bz2
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa

from pipeline import copies, storage
from pipeline.errors import BadInput

_BLOCK = 512
_MAX_HEADER = 2**20
"""Bytes of a long name or of pax headers."""
_MAX_NAME = 4096
"""Characters of a path: all are held in memory."""
_MAX_DIGITS = 19
_CHUNK = 2**20
_PADDING = 2**20
"""Bytes of zeros behind an archive's end in which the next archive is looked for (`cat a b`)."""
_MAGIC = {
    b"\x1f\x8b": "gz",
    b"BZh": "bz2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zst",
}
_BROKEN = (EOFError, zlib.error, lzma.LZMAError, pa.ArrowException)


class Stream:
    """A file's bytes, unpacked, which knows where it is and where the file should go on."""

    def __init__(self, path: str, file: BinaryIO, *, is_packed: bool, size: int) -> None:
        self.path, self.is_packed, self.place = path, is_packed, 0
        self._file, self._size = file, size

    def read(self, size: int) -> bytes:
        """`size` bytes, or fewer at the end."""
        try:
            data = self._file.read(size)
        except (*_BROKEN, OSError) as error:
            raise self.broken(f"its packing is damaged: {error}") from error
        self.place += len(data)
        return data

    def whole(self, size: int) -> bytes:
        """`size` bytes. Raises BadInput when the file breaks off."""
        data = self.read(size)
        while len(data) < size and (more := self.read(size - len(data))):
            data += more
        if len(data) < size:
            raise self.broken()
        return data

    def go(self, place: int) -> None:
        """Go on at `place`. Raises BadInput when the file breaks off before."""
        if not self.is_packed:
            if place > self._size:
                self.place = self._size
                raise self.broken()
            self._file.seek(place)
            self.place = place
            return
        if place < self.place:
            raise ValueError(f"{place} lies behind in a packed file")
        while self.place < place:
            if not self.read(min(_CHUNK, place - self.place)):
                raise self.broken()

    def broken(self, why: str = "it breaks off") -> BadInput:
        """The error of a file that ends too early."""
        return BadInput(
            f"{self.path} is not whole: {why}, at byte {self.place:,}"
            f"{' of what is packed' if self.is_packed else ''}: fetch it again"
        )


@contextmanager
def opened(path: str) -> Iterator[Stream]:
    """`path` as a stream of what it holds, unpacked."""
    packing = packing_of(path)
    with copies.local(path).open("rb") as raw:
        size = raw.seek(0, io.SEEK_END)
        raw.seek(0)
        file: Any = raw
        if packing == "gz":
            file = gzip.GzipFile(fileobj=raw)
        elif packing == "bz2":
            file = bz2.BZ2File(raw)
        elif packing == "xz":
            file = lzma.LZMAFile(raw)  # noqa: SIM115 -- closed with `raw`
        elif packing == "zst":
            file = pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd")
        yield Stream(path, file, is_packed=packing is not None, size=size)


def packing_of(path: str) -> str | None:
    """gz, bz2, xz or zst, by the file's first bytes."""
    head = storage.read_at(storage.place(path), 0, 6)
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)


def is_tar(name: str) -> bool:
    """Whether a file of this name is a tar."""
    return re.search(r"\.(tar(\.(gz|bz2|xz|zst))?|tgz|tbz2?|txz)$", name.lower()) is not None


def looks_like_tar(path: str) -> bool:
    """Whether a file begins with a tar's header, whatever it is called."""
    return storage.read_at(storage.place(path), 0, _BLOCK)[257:262] == b"ustar"


class Member(NamedTuple):
    """A regular file in a tar."""

    name: str
    """As the tar has it; bytes that are no UTF-8 as surrogates."""
    offset: int
    """Where its bytes begin."""
    size: int


def members(stream: Stream) -> Iterator[Member]:
    """The regular files of a tar, in its order; hard links to an earlier one are that one again.

    The bytes of a member may be read from `stream` before the next is asked for. Links, devices and
    folders are left out. Raises BadInput when the tar breaks off or is none.
    """
    seen: dict[str, tuple[int, int]] = {}
    long_name: str | None = None
    pax: dict[str, str] = {}
    while (header := _header(stream)) is not None:
        kind, start = header[156:157], stream.place
        size = _number(header[124:136])
        if size is None:
            raise _no_tar(stream, start)
        if kind in b"xgLK":
            if size > _MAX_HEADER:
                raise BadInput(f"{stream.path}: a name of {size:,} bytes at byte {start:,}")
            body = stream.whole(size)
            if kind == b"L":
                long_name = _text(body.split(b"\0")[0])
            elif kind == b"x":
                pax = _pax(body)
            stream.go(start + size + -size % _BLOCK)
            continue
        if kind == b"S" or any(key.startswith("GNU.sparse") for key in pax):
            raise BadInput(
                f"{stream.path}: a sparse member at byte {start:,}: write the tar without --sparse"
            )
        name = pax.get("path") or long_name or _name(header)
        if len(name) > _MAX_NAME:
            raise BadInput(f"{stream.path}: a name of {len(name):,} characters at byte {start:,}")
        if (told := pax.get("size", "")).isdecimal():
            # Python refuses thousands of digits; so many are beyond any file.
            size = int(told) if len(told) <= _MAX_DIGITS else 10**_MAX_DIGITS
        long_name, linked, pax = None, pax.get("linkpath") or _text(header[157:257]), {}
        if kind in (b"0", b"\0", b"7") and not name.endswith("/"):
            seen[name] = start, size
            yield Member(name, start, size)
        elif kind == b"1" and linked in seen:
            yield Member(name, *seen[linked])
            if not stream.is_packed:
                stream.go(start)  # a link has no bytes of its own
            continue
        elif kind in b"123456":
            continue
        stream.go(start + size + -size % _BLOCK)


def _header(stream: Stream) -> bytes | None:
    """The next header; None at the end of the archive."""
    at = stream.place
    header = stream.read(_BLOCK)
    if header.strip(b"\0"):
        if len(header) < _BLOCK:
            raise stream.broken()
        if not _is_header(header):
            raise _no_tar(stream, at)
        return header
    if len(header) < _BLOCK:
        raise stream.broken("it has no end of archive")
    while stream.place < at + _PADDING:
        header = stream.read(_BLOCK)
        if header.strip(b"\0") or len(header) < _BLOCK:
            return header if len(header) == _BLOCK and _is_header(header) else None
    return None


def _no_tar(stream: Stream, at: int) -> BadInput:
    if at == 0:
        return BadInput(f"{stream.path} is neither a folder nor a readable tar: fetch it again")
    return BadInput(f"{stream.path} is damaged: no tar header at byte {at:,}: fetch it again")


def _is_header(header: bytes) -> bool:
    told = _number(header[148:156])
    unsigned = sum(header[:148]) + sum(header[156:]) + 8 * ord(" ")
    if told == unsigned:
        return True
    # Some old writers summed signed bytes.
    return told == unsigned - 256 * sum(b > 127 for b in header[:148] + header[156:])


def _number(field: bytes) -> int | None:
    """Octal digits, or GNU's base 256; None when it is neither or negative."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.split(b"\0")[0].strip()
    try:
        number = int(digits or b"0", 8)
    except ValueError:
        return None
    return number if number >= 0 else None


def _name(header: bytes) -> str:
    name = _text(header[:100])
    is_posix = header[257:263] == b"ustar\0"
    prefix = _text(header[345:500]) if is_posix else ""
    return f"{prefix}/{name}" if prefix else name


def _text(field: bytes) -> str:
    return field.split(b"\0")[0].decode("utf-8", "surrogateescape")


def _pax(body: bytes) -> dict[str, str]:
    """The `length key=value` lines of a pax header."""
    found, place = {}, 0
    while place < len(body):
        digits, space, _ = body[place : place + 20].partition(b" ")
        if not space or not digits.isdigit() or int(digits) <= len(digits):
            break
        line = body[place + len(digits) + 1 : place + int(digits) - 1]
        key, _, value = line.partition(b"=")
        found[_text(key)] = value.decode("utf-8", "surrogateescape")
        place += int(digits)
    return found
