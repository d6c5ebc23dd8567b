"""Tars: where in a shard each sample lies. Shards may come from anywhere, so nothing is believed.

tarfile stops at a damaged header as if the archive ended there, which would lose samples in
silence; this walk says which file is wrong, and where.
"""

import json
import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from pipeline.errors import BadInput
from pipeline.schemas import SAMPLE_MEMBERS

_BLOCK = 512
_MAX_NAME_BYTES = 4096
_IMAGE, _CAPTION, _ = SAMPLE_MEMBERS
_SHARD_NAME = re.compile(r"[\w.-]+\.tar")


@dataclass(frozen=True)
class Place:
    """Where a sample's image and caption lie in their shard."""

    key: str
    image: tuple[int, int]
    """Offset and bytes."""
    caption: tuple[int, int]


def listed(folder: Path) -> list[tuple[Path, int | None]]:
    """The shards of `folder` in order, each with the samples that index.json promises.

    Without an index.json: every tar, in the order of the names, and no promise.
    """
    index = folder / "index.json"
    if not index.exists():
        tars = sorted(folder.glob("*.tar"))
        if not tars:
            raise BadInput(f"{folder} holds no tar: name a folder of WebDataset shards")
        return [(path, None) for path in tars]
    try:
        told = json.loads(index.read_text(encoding="utf-8"))
        shards = [(str(s["name"]), int(s["samples"]), int(s["bytes"])) for s in told["shards"]]
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{index} is not an index of shards: {error!r}") from None
    for name, _, size in shards:
        if not _SHARD_NAME.fullmatch(name):
            raise BadInput(f"{index} names `{name[:80]}`, which is no tar beside it")
        path = folder / name
        found = path.stat().st_size if path.exists() else None
        if found != size:
            raise BadInput(
                f"{path} is {'missing' if found is None else f'{found:,} bytes long'}, but "
                f"index.json promises {size:,} bytes: copy it again, or run `wit shard` again"
            )
    return [(folder / name, samples) for name, samples, _ in shards]


def places_in(tar: mmap.mmap, path: Path) -> Iterator[Place]:
    """The samples of a shard, in order. Raises BadInput naming `path` when it is damaged."""
    key, members = "", dict[str, tuple[int, int]]()
    for name, offset, size in _files(tar, path):
        folder, slash, base = name.rpartition("/")
        stem, _, suffix = base.partition(".")
        if folder + slash + stem != key:
            if members:
                yield _place(key, members, path)
            key, members = folder + slash + stem, {}
        if suffix in members:
            raise BadInput(f"{path}: sample `{key}` has two members `.{suffix}`: not a WebDataset")
        members[suffix] = (offset, size)
    if members:
        yield _place(key, members, path)


def _place(key: str, members: dict[str, tuple[int, int]], path: Path) -> Place:
    missing = [f".{suffix}" for suffix in (_IMAGE, _CAPTION) if suffix not in members]
    if missing:
        raise BadInput(f"{path}: sample `{key}` has no {' and no '.join(missing)}")
    return Place(key, members[_IMAGE], members[_CAPTION])


def _files(tar: mmap.mmap, path: Path) -> Iterator[tuple[str, int, int]]:
    """Name, offset and bytes of every file of the archive."""

    def damaged(what: str) -> NoReturn:
        raise BadInput(f"{path} is damaged at byte {at:,}: {what}")

    at, end = 0, len(tar)
    renamed: dict[str, str] = {}
    while True:
        header = tar[at : at + _BLOCK]
        if len(header) < _BLOCK:
            damaged("the archive ends in the middle")
        if not any(header):
            return
        if not _is_sound(header):
            damaged("no tar header")
        size = _number(header[124:136])
        if "size" in renamed and renamed["size"].isdecimal():
            size = int(renamed["size"][:20])
        body, kind = at + _BLOCK, header[156:157]
        if size is None or size > end - body:
            damaged("a member longer than the archive")
        if kind in b"xgLK":
            if kind in b"xL":
                if size > _MAX_NAME_BYTES:
                    damaged("a header longer than any name")
                renamed |= _extended(tar[body : body + size], kind)
        elif kind in b"0\0":
            name = renamed.get("path") or _name(header)
            renamed = {}
            yield name.removeprefix("./"), body, size
        elif kind == b"5":
            renamed = {}
        else:
            damaged(f"a member of kind {kind!r}, where only files belong")
        at = body + -(-size // _BLOCK) * _BLOCK


def _is_sound(header: bytes) -> bool:
    # The checksum counts its own eight bytes as spaces.
    return _number(header[148:156]) == sum(header) - sum(header[148:156]) + 8 * ord(" ")


def _number(octal: bytes) -> int | None:
    digits = octal.strip(b" \0")
    return int(digits, 8) if re.fullmatch(rb"[0-7]+", digits) else None


def _name(header: bytes) -> str:
    name, prefix = header[:100].split(b"\0")[0], header[345:500].split(b"\0")[0]
    is_ustar = header[257:263] == b"ustar\0"
    return (prefix + b"/" + name if is_ustar and prefix else name).decode("utf-8", "replace")


def _extended(body: bytes, kind: bytes) -> dict[str, str]:
    """What a PAX or GNU header says of the member that follows it."""
    if kind == b"L":
        return {"path": body.split(b"\0")[0].decode("utf-8", "replace")}
    found = re.findall(rb"\d+ (path|size)=([^\n]*)\n", body)
    return {name.decode(): value.decode("utf-8", "replace") for name, value in found}
