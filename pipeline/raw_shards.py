"""Raw shards: where the files of a download lie, and the images in them.

reads   00000_stats.json, 00000.tar

On a disk the tar of raw shard 0 is 00000.tar. In a store each attempt at a shard puts a tar under
a name of its own, and the statistics, which have one name everywhere, tell which of them counts.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from upath import UPath

from pipeline import storage, tars
from pipeline.storage import Place

SHARD_DIGITS = 5
STATS = "_stats.json"
_SPAN_BYTES = 1 << 25
"""Asked of a store at a time: two such stretches of a tar are in memory."""
_GAP_BYTES = 1 << 20
"""Bytes that are read for nothing rather than asking once more: a store thinks for as long."""


def shard_name(raw_shard: int) -> str:
    """What the files of a raw shard begin with."""
    return f"{raw_shard:0{SHARD_DIGITS}d}"


def stats_in(folder: Place, name: str) -> dict[str, Any] | None:
    """What the statistics of a shard tell; None where there are none."""
    try:
        stats: dict[str, Any] = json.loads(storage.read(folder / f"{name}{STATS}"))
    except (OSError, ValueError):
        return None
    return stats


def stats_of_whole(
    folder: Place, name: str, pairs: str | None = None, found: Mapping[str, int] | None = None
) -> dict[str, Any] | None:
    """The statistics of a shard that is whole, and made of `pairs` if given; otherwise None.

    `found` are the lengths of the folder's files, where they were listed.
    """
    stats = stats_in(folder, name)
    if stats is None or pairs not in (None, stats.get("pairs")) or "files" not in stats:
        return None
    if found is None:
        sizes = {file: storage.size(folder / file) for file in stats["files"]}
    else:
        sizes = {file: found.get(file) for file in stats["files"]}
    return stats if sizes == stats["files"] else None


def raw_tar(folder: Place, raw_shard: int) -> Place:
    """The tar of a raw shard. Raises FileNotFoundError where a store has no statistics of it."""
    plain = folder / f"{shard_name(raw_shard)}.tar"
    if not storage.is_remote(plain):
        return plain
    stats = json.loads(storage.read(folder / f"{shard_name(raw_shard)}{STATS}"))
    return folder / tar_of(stats)


def tar_of(stats: Mapping[str, Any]) -> str:
    """The name of the tar that the statistics of a shard tell of."""
    return next(str(file) for file in stats["files"] if file.endswith(".tar"))


class RawTars:
    """The raw tars that one task reads, each found once, by the name that it has on a disk."""

    def __init__(self) -> None:
        self._known: dict[str, Place] = {}

    def find(self, path: str) -> Place:
        """Where `FOLDER/00000.tar` lies. Raises FileNotFoundError."""
        if path not in self._known:
            plain = storage.place(path)
            # By its number only: what others made, and Spark hands on, keeps its name.
            is_raw = storage.is_remote(plain) and plain.stem.isdecimal()
            self._known[path] = raw_tar(plain.parent, int(plain.stem)) if is_raw else plain
        return self._known[path]

    def read(self, path: str, offset: int, size: int) -> bytes:
        """`size` bytes of the tar, or fewer where it ends. Raises FileNotFoundError."""
        tar = self.find(path)
        if storage.is_remote(tar):
            return storage.read_at(tar, offset, size)
        return tars.read(tar, offset, size)  # which others may have packed


def read_all(tar: Place, asked: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    """What lies at each offset, of each size, in their order; fewer bytes where the tar ends.

    Of a store it is read in long stretches, the next one while one is used. Raises
    FileNotFoundError.
    """
    if not storage.is_remote(tar):
        # Not mapped: one that is cut short meanwhile would end the process.
        with Path(tar).open("rb", buffering=0) as file:
            for offset, size in asked:
                yield os.pread(file.fileno(), size, offset)
        return
    with ThreadPoolExecutor(1) as pool:
        spans = iter(_spans(asked))
        span = next(spans, None)
        coming = span and pool.submit(_read_span, tar, span)
        while span and coming:
            begin, data = span[0][0], coming.result()
            after = next(spans, None)
            coming = after and pool.submit(_read_span, tar, after)
            for offset, size in span:
                yield data[offset - begin : offset - begin + size]
            span = after


_Span = list[tuple[int, int]]


def _spans(asked: Sequence[tuple[int, int]]) -> Iterator[_Span]:
    """Places that are near one another, and are read together."""
    span: _Span = []
    end = 0
    for offset, size in asked:
        is_near = 0 <= offset - end <= _GAP_BYTES
        if span and not (is_near and offset + size - span[0][0] <= _SPAN_BYTES):
            yield span
            span = []
        span.append((offset, size))
        end = offset + size
    if span:
        yield span


def _read_span(tar: UPath, span: _Span) -> bytes:
    begin, (last, size) = span[0][0], span[-1]
    return storage.read_at(tar, begin, last + size - begin)
