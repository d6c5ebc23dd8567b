"""Tars: plain ustar members whose bytes depend on their names and contents alone.

POSIX.1-1988 ustar; no time, owner or PAX header, so that equal samples are equal bytes.
"""

import tarfile
from pathlib import Path
from typing import BinaryIO

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
    """`size` bytes of a member, from where `append` said that its data lies."""
    with path.open("rb") as tar:
        tar.seek(offset)
        return tar.read(size)


def close(tar: BinaryIO) -> None:
    """Write the end of the archive: two zero blocks, then up to a whole record."""
    tar.write(b"\0" * (2 * _BLOCK))
    tar.write(b"\0" * (-tar.tell() % _RECORD))
