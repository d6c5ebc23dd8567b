"""Members: what a tar holds that somebody else made, and where it is damaged.

tarfile stops at a damaged header as if the archive ended there, which loses members in silence.
This walk says what is wrong and where, and goes on at the next header: the caller decides whether
damage is an error. Nothing is unpacked, so that names cannot lead anywhere.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from pipeline import tars

_BLOCK = 512
_LEAP = 1 << 20
_MAX_HEADER_BYTES = 1 << 20
"""Of a PAX or GNU header: longer ones are no names."""
MAX_BYTES = 1 << 28
"""Of one member that is read into memory."""
_MAX_SIZE = 1 << 60
_MAX_NAME = 4096
"""Characters; who reads an archive holds its names in memory."""
_MAX_DAMAGES = 100
"""Behind so many an archive is given up: each costs a search for the next header."""
_GZIP = b"\x1f\x8b"
_UNREAD = {b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"PK\3\4": "zip"}

_KINDS = {
    b"1": "link",
    b"2": "link",
    b"3": "device",
    b"4": "device",
    b"5": "folder",
    b"6": "device",
    b"S": "sparse",
}
_FILES = (b"0", b"\0", b"7")
_HEADERS = (b"x", b"X", b"g", b"L", b"K")
"""Of the member that follows them."""


class Member(NamedTuple):
    """A member of an archive."""

    name: str
    offset: int
    """Where its bytes begin."""
    size: int
    refused: str | None
    """Why it is no file: link, device, folder, sparse, too large, too long a name, unknown kind."""
    data: bytes | None
    """Its bytes, where they were asked for."""


class Damage(NamedTuple):
    """A place where the archive is not what it must be."""

    at: int
    what: str


def members(path: Path, wanted: Callable[[str], bool]) -> Iterator[Member | Damage]:
    """Every member and every damage of the archive at `path`, plain or in gzip, in order.

    Members whose name is `wanted` come with their bytes. Raises OSError when there is no file.
    """
    with path.open("rb") as raw:
        magic = raw.read(6)
    packing = next((name for begin, name in _UNREAD.items() if magic.startswith(begin)), None)
    if packing is not None:
        yield Damage(0, f"packed as {packing}, and only gzip is read: unpack it")
        return
    if not magic:
        yield Damage(0, "an empty file")
        return
    damages = 0
    with tars.opened(path) as file:
        for found in _walk(file, wanted, is_packed=magic.startswith(_GZIP)):
            yield found
            if isinstance(found, Damage):
                damages += 1
                if damages == _MAX_DAMAGES:
                    yield Damage(found.at, "given up here: too many damages")
                    return


def _walk(
    file: BinaryIO, wanted: Callable[[str], bool], *, is_packed: bool
) -> Iterator[Member | Damage]:
    at = 0
    told: dict[str, str] = {}
    has_end = False
    while header := _read(file, at, _BLOCK):
        if len(header) == _BLOCK and not any(header):
            at, is_last = _behind_zeros(file, at)
            has_end = True
            if not is_last:
                # As where archives lie one behind the other. Most readers stop before them.
                yield Damage(at, "members behind the end of the archive")
            continue
        size = _number(header[124:136]) if len(header) == _BLOCK else None
        if size is None or not _is_sound(header):
            yield Damage(at, "no tar header")
            at, told = _next_header(file, at + _BLOCK), {}
            continue
        has_end = False
        body, kind = at + _BLOCK, header[156:157]
        if kind in _HEADERS:
            at = body + _padded(size)
            if size > _MAX_HEADER_BYTES:
                yield Damage(body, "a header longer than any name")
            elif kind in b"xXL":
                told |= _extended(_read(file, body, size), kind)
            continue
        name = told.get("path") or _name(header)
        if kind == b"S":
            body = _behind_sparse_map(file, body, header[482:483] != b"\0")
        elif kind in _FILES and told.get("size", "").isdecimal():
            size = min(int(told["size"][:19]), _MAX_SIZE)
        elif kind in b"123456":
            size = 0  # what such a header says is no length of bytes that follow
        refused = _refusal(kind, name, size, told)
        data = _read(file, body, size) if refused is None and wanted(name) else None
        is_whole = _reaches(file, body + size) if data is None else len(data) == size
        if not is_whole:
            yield Damage(body, f"the archive ends in the middle of {name[:200]}")
            # Or its size is a lie, which would hide what follows; in gzip there is no way back.
            at, told = _next_header(file, body), {}
            if is_packed or not _read(file, at, 1):
                return
            continue
        yield Member(name[:_MAX_NAME], body, size, refused, data)
        at, told = body + _padded(size), {}
    if not has_end:
        yield Damage(at, "the archive ends without its mark")


def _refusal(kind: bytes, name: str, size: int, told: dict[str, str]) -> str | None:
    """Why a member is no file that can be read; None when it is one."""
    if kind not in _FILES:
        return _KINDS.get(kind, "unknown kind")
    if "sparse" in told:
        return "sparse"
    if name.endswith("/"):
        return "folder"  # as tars before POSIX tell it
    if len(name) > _MAX_NAME:
        return "too long a name"
    return "too large" if size > MAX_BYTES else None


def _read(file: BinaryIO, at: int, size: int) -> bytes:
    try:
        file.seek(at)
    except OSError:  # further than any file of this system reaches
        return b""
    return file.read(size)


def _reaches(file: BinaryIO, end: int) -> bool:
    """Whether `file` is as long as `end`."""
    return end == 0 or len(_read(file, end - 1, 1)) == 1


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _is_sound(header: bytes) -> bool:
    """Whether the checksum fits, which counts its own eight bytes as spaces."""
    told = _number(header[148:156])
    rest = header[:148] + header[156:]
    if told == sum(rest) + 8 * ord(" "):
        return True
    # Some old writers summed signed bytes.
    return told == sum(byte - 256 * (byte > 127) for byte in rest) + 8 * ord(" ")


def _number(field: bytes) -> int | None:
    """Octal digits, or GNU's base 256 where they would not do."""
    if field[0] == 0x80:
        number = int.from_bytes(field[1:], "big")
        return number if number <= _MAX_SIZE else None
    digits = field.strip(b" \0")
    return int(digits or b"0", 8) if re.fullmatch(rb"[0-7]*", digits) else None


def _name(header: bytes) -> str:
    name, prefix = header[:100].split(b"\0")[0], header[345:500].split(b"\0")[0]
    is_ustar = header[257:263] == b"ustar\0"
    return _text(prefix + b"/" + name if is_ustar and prefix else name)


def _text(name: bytes) -> str:
    # Two names that are no UTF-8 stay two names.
    return name.decode("utf-8", "backslashreplace")


def _extended(body: bytes, kind: bytes) -> dict[str, str]:
    """What a GNU or PAX header says of the member that follows it; what is no record is nothing."""
    if kind == b"L":
        return {"path": _text(body.split(b"\0")[0])}
    told: dict[str, str] = {}
    at = 0
    while length := re.match(rb"([0-9]{1,7}) ", body[at : at + 8]):
        record = body[at : at + int(length[1])]
        name, equals, value = record[length.end() :].removesuffix(b"\n").partition(b"=")
        if not equals or not record.endswith(b"\n"):
            break
        if name in (b"path", b"size"):
            told.setdefault(name.decode(), _text(value))
        elif name.startswith(b"GNU.sparse."):
            told["sparse"] = ""
            if name == b"GNU.sparse.name":
                told["path"] = _text(value)
        at += len(record)
    return told


def _behind_sparse_map(file: BinaryIO, at: int, goes_on: bool) -> int:
    """Where the bytes of a sparse member begin: a map of its holes may lie before them."""
    while goes_on:
        block = _read(file, at, _BLOCK)
        at += _BLOCK
        goes_on = len(block) == _BLOCK and block[504] != 0
    return at


def _behind_zeros(file: BinaryIO, at: int) -> tuple[int, bool]:
    """The first block from `at` on that holds something, and whether there is none."""
    while chunk := _read(file, at, _LEAP):
        if rest := chunk.lstrip(b"\0"):
            return at + (len(chunk) - len(rest)) // _BLOCK * _BLOCK, False
        at += len(chunk)
    return at, True


def _next_header(file: BinaryIO, at: int) -> int:
    """The next block that is a header of POSIX or GNU; the end of the file if there is none."""
    while chunk := _read(file, at, _LEAP):
        for found in re.finditer(rb"ustar[\0 ]", chunk):
            begin = found.start() - 257
            if begin >= 0 and begin % _BLOCK == 0 and _is_sound(chunk[begin : begin + _BLOCK]):
                return at + begin
        at += len(chunk)
    return at
