"""Keys: which of them stand in several shards, of any number of samples in bounded memory.

A key is its first 16 bytes where it is one of ours, and a hash of as many where not. Runs of them
are sorted and written to a scratch folder, 20 bytes each, then looked through slice by slice: 400
million keys take 8 GB there and 300 MB of memory.
"""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

_RECORD = np.dtype([("high", "<u8"), ("low", "<u8"), ("shard", "<u4")])
_Records = npt.NDArray[Any]
_PAIR_ID = re.compile("[0-9a-f]{32}")
DIGEST_BYTES = 16


class Twice(NamedTuple):
    """A key that an earlier shard holds too."""

    shard: int
    earlier: int
    digest: bytes


def digest(key: str) -> bytes:
    """What a key is known by. No two keys of ours have the same."""
    if _PAIR_ID.fullmatch(key):
        return bytes.fromhex(key)
    # Names of members may hold halves of characters.
    raw = key.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(raw, digest_size=DIGEST_BYTES).digest()


class Keys:
    """The keys of all shards, added shard by shard."""

    def __init__(self, scratch: Path, room: int = 1 << 22) -> None:
        self._scratch, self._room = scratch, room
        self._held: list[_Records] = []
        self._count = 0
        self._runs: list[_Records] = []
        self._total = 0

    def add(self, shard: int, digests: bytes) -> None:
        """The keys of one shard, each once, end to end."""
        halves = np.frombuffer(digests, ">u8").reshape(-1, 2)
        records = np.empty(len(halves), _RECORD)
        records["high"], records["low"], records["shard"] = halves[:, 0], halves[:, 1], shard
        self._held.append(records)
        self._count += len(records)
        self._total += len(records)
        if self._count >= self._room:
            self._spill()

    def twice(self, most: int) -> tuple[int, list[Twice]]:
        """How often a key stands in a further shard, and the first of those by shard."""
        if self._held:
            self._runs.append(self._taken())
        count, first = 0, list[Twice]()
        for part in self._slices():
            again = _again(part)
            count += len(again)
            first = sorted([*first, *_first(again, most)])[:most]
        return count, first

    def _taken(self) -> _Records:
        records = np.concatenate(self._held)
        self._held, self._count = [], 0
        return records[np.argsort(records["high"], kind="stable")]

    def _spill(self) -> None:
        path = self._scratch / f"keys.{len(self._runs)}"
        self._taken().tofile(path)
        self._runs.append(np.memmap(path, _RECORD, mode="r"))

    def _slices(self) -> Iterator[_Records]:
        """All records, in parts that hold all those of a key; a part is about what is held."""
        slices = max(1, -(-self._total // self._room))
        begins = [n * (1 << 64) // slices for n in range(1, slices)]
        cuts = np.array(begins, np.uint64)
        ends = [np.searchsorted(run["high"], cuts).tolist() for run in self._runs]
        bounds = [[0, *cut, len(run)] for cut, run in zip(ends, self._runs, strict=True)]
        for n in range(slices):
            parts = [run[b[n] : b[n + 1]] for b, run in zip(bounds, self._runs, strict=True)]
            yield np.concatenate(parts) if parts else np.empty(0, _RECORD)


def _again(part: _Records) -> _Records:
    """Of the records of a slice those that repeat a key, with the earlier shard as `first`."""
    part = part[np.argsort(part["high"], kind="stable")]
    same = part["high"][1:] == part["high"][:-1]
    # Few: the rest of the work is on these alone.
    alike = part[np.append(same, False) | np.insert(same, 0, False)] if len(part) else part
    alike = alike[np.lexsort((alike["shard"], alike["low"], alike["high"]))]
    is_new = np.ones(len(alike), bool)
    for half in ("high", "low"):
        differs = alike[half][1:] != alike[half][:-1]
        is_new[1:] = differs if half == "high" else is_new[1:] | differs
    begins = np.maximum.accumulate(np.where(is_new, np.arange(len(alike)), 0))
    kind = np.dtype([*_RECORD.descr, ("first", "<u4")])
    told = np.empty(len(alike), kind)
    for name in _RECORD.names or ():
        told[name] = alike[name]
    told["first"] = alike["shard"][begins]
    return told[~is_new]


def _first(again: _Records, most: int) -> Iterator[Twice]:
    order = np.lexsort((again["low"], again["high"], again["first"], again["shard"]))
    for record in again[order[:most]]:
        raw = int(record["high"]).to_bytes(8, "big") + int(record["low"]).to_bytes(8, "big")
        yield Twice(int(record["shard"]), int(record["first"]), raw)
