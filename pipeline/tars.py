"""Tars: plain ustar members whose bytes depend on their names and contents alone.

POSIX.1-1988 ustar; no time, owner or PAX header, so that equal samples are equal bytes.
"""

import gzip
import hashlib
import os
import zlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, cast

_BLOCK = 512
_RECORD = 20 * _BLOCK
_NAME_BYTES = 100
_MAX_SIZE = 8**11 - 1
_ZEROS = [b"\0" * length for length in range(_BLOCK)]

# A header: the name, mode 0644 and no owner, the size, no time, the checksum, a plain file's rest.
_MODE = b"0000644\0" + b"0000000\0" * 2
_SIZE = b"%011o\0" + b"0" * 11 + b"\0"
_SUM = b"%06o\0 " + (b"0" + b"\0" * 100 + b"ustar\00000").ljust(_BLOCK - 156, b"\0")
_SUM_OF_REST = sum(_MODE) + sum(_SUM.removeprefix(b"%06o\0 ")) + 8 * ord(" ")

_GATHERED_BYTES = 1 << 20
"""What is written at a time. Four times as much or an eighth are no faster."""
_MAX_PIECES = 1024
"""Of one call: IOV_MAX of Linux."""
_SMALL = 4096
"""Bytes that are cheaper copied to their neighbours than handed over by themselves."""


def append(tar: BinaryIO, name: str, data: bytes) -> int:
    """Write one member at the end of `tar`; the offset of its data.

    Raises ValueError when `name` or its data do not fit a ustar header: 100 ASCII bytes, 8 GiB.
    """
    named, size = name.encode("ascii"), len(data)
    tail, of_tail = _rest_of_name("", len(named))
    sized, of_size = _sized(size)
    tar.write(b"".join((named, tail, sized, _summed(sum(named) + of_tail + of_size))))
    offset = tar.tell()
    tar.write(data)
    tar.write(_ZEROS[-size % _BLOCK])
    return offset


def close(tar: BinaryIO) -> None:
    """Write the end of the archive: two zero blocks, then up to a whole record."""
    tar.write(_end(tar.tell()))


@lru_cache(4096)
def _rest_of_name(extension: str, begun: int) -> tuple[bytes, int]:
    """What follows `begun` bytes of a name, as far as the member's size; the sum of its bytes."""
    named = extension.encode("ascii")
    if not 0 < begun + len(named) <= _NAME_BYTES:
        raise ValueError(f"name is too long for a ustar header, or empty: ...{extension}")
    return named.ljust(_NAME_BYTES - begun, b"\0") + _MODE, sum(named)


@lru_cache(1 << 16)
def _sized(size: int) -> tuple[bytes, int]:
    """The size of a member as a header has it, and the sum of its bytes."""
    if size > _MAX_SIZE:
        raise ValueError(f"{size:,} bytes are too many for a ustar header")
    told = _SIZE % size
    return told, sum(told)


@lru_cache(1 << 14)
def _summed(of_name_and_size: int) -> bytes:
    """The checksum of a header, and all that follows it."""
    return _SUM % (of_name_and_size + _SUM_OF_REST)


def _end(size: int) -> bytes:
    size += 2 * _BLOCK
    return b"\0" * (2 * _BLOCK + -size % _RECORD)


class Writer:
    """A new tar of samples, written nearly as fast as memory is copied.

    Leaving the `with` writes the end of the archive; by an exception, nothing more. With `digest`
    its sha256 is known in the end.
    """

    def __init__(self, path: Path, *, digest: bool = False) -> None:
        self.size = 0
        """Bytes so far; the length of the tar in the end."""
        self.sha256: str | None = None
        """Of the whole tar, in hex."""
        self._hash = hashlib.sha256() if digest else None
        self._small: list[bytes] = []
        self._pieces: list[bytes] = []
        self._written = 0
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)

    def add(self, key: str, members: Sequence[tuple[str, bytes]]) -> list[int]:
        """Write a sample, given as extensions and bytes; the offset of each one's bytes.

        Raises ValueError when the names would not be ASCII, would be longer than 100 bytes, or
        would not be read as `key` and extension; and OSError. The tar is of no use then.
        """
        if not key or "." in key or "/" in key or "\0" in key:
            raise ValueError(f"{key!r} is no key of a sample: it is empty or holds a dot or slash")
        small, pieces, at, offsets = self._small, self._pieces, self.size, []
        named = f"{key}.".encode("ascii")
        # The lower half of Adler-32 is one more than the sum of the bytes, and quicker had.
        begun, of_name = len(named), (zlib.adler32(named) & 0xFFFF) - 1
        for extension, data in members:
            size = len(data)
            padding = -size % _BLOCK
            tail, of_tail = _rest_of_name(extension, begun)
            sized, of_size = _sized(size)
            rest = _summed(of_name + of_tail + of_size)
            if size < _SMALL:
                small += (named, tail, sized, rest, data, _ZEROS[padding])
            else:
                small += (named, tail, sized, rest)
                begin = b"".join(small)
                pieces += (begin, data)
                if self._hash is not None:  # now, while the cache has it
                    self._hash.update(begin)
                    self._hash.update(data)
                small.clear()
                small.append(_ZEROS[padding])
            at += _BLOCK
            offsets.append(at)
            at += size + padding
        self.size = at
        if at - self._written > _GATHERED_BYTES:
            self._flush()
        return offsets

    def _flush(self) -> None:
        rest_of_small = b"".join(self._small)
        self._pieces.append(rest_of_small)
        self._small.clear()
        if self._hash is not None:
            self._hash.update(rest_of_small)
        for first in range(0, len(self._pieces), _MAX_PIECES):
            pieces = self._pieces[first : first + _MAX_PIECES]
            written = os.writev(self._file, pieces)
            if written < sum(map(len, pieces)):
                # What there was room for, or the most that a call takes.
                rest = memoryview(b"".join(pieces))[written:]
                while rest:
                    rest = rest[os.write(self._file, rest) :]
        self._pieces.clear()
        self._written = self.size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                end = _end(self.size)
                self._small.append(end)
                self.size += len(end)
                self._flush()
                self.sha256 = self._hash.hexdigest() if self._hash is not None else None
        finally:
            os.close(self._file)


def read(path: Path, offset: int, size: int) -> bytes:
    """`size` bytes of a member, from where its data lies; fewer where the file is shorter."""
    with opened(path) as tar:
        tar.seek(offset)
        return tar.read(size)


def opened(path: Path) -> BinaryIO:
    """The archive at `path`, or what it holds when it is packed in gzip, to be read."""
    raw = path.open("rb")
    magic = raw.read(2)
    raw.seek(0)
    return cast(BinaryIO, _Unpacked(raw)) if magic == b"\x1f\x8b" else raw


class _Unpacked(gzip.GzipFile):
    """A gzip file that ends where it breaks off."""

    def __init__(self, raw: BinaryIO) -> None:
        super().__init__(fileobj=raw)
        self._raw = raw

    def read(self, size: int | None = -1) -> bytes:
        try:
            return super().read(size)
        except (EOFError, gzip.BadGzipFile, zlib.error):
            return b""

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return super().seek(offset, whence)
        except (EOFError, gzip.BadGzipFile, zlib.error):
            return self.tell()

    def close(self) -> None:
        super().close()
        self._raw.close()
