"""Tars: plain ustar members whose bytes depend on their names and contents alone.

POSIX.1-1988 ustar; no time, owner or PAX header, so that equal samples are equal bytes.
"""

import gzip
import tarfile
import zlib
from pathlib import Path
from typing import BinaryIO, cast

_BLOCK = 512
_RECORD = 20 * _BLOCK


def append(tar: BinaryIO, name: str, data: bytes) -> int:
    """Write one member at the end of `tar`; the offset of its data.

    Raises ValueError when `name` does not fit a ustar header (100 ASCII bytes).
    """
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    tar.write(info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict"))
    offset = tar.tell()
    tar.write(data)
    tar.write(b"\0" * (-len(data) % _BLOCK))
    return offset


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
        except (EOFError, OSError, zlib.error):
            return b""

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return super().seek(offset, whence)
        except (EOFError, OSError, zlib.error):
            return self.tell()

    def close(self) -> None:
        super().close()
        self._raw.close()


def close(tar: BinaryIO) -> None:
    """Write the end of the archive: two zero blocks, then up to a whole record."""
    tar.write(b"\0" * (2 * _BLOCK))
    tar.write(b"\0" * (-tar.tell() % _RECORD))
