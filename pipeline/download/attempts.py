"""Attempts: of all tries at one raw shard one counts, in a store without locks and renames.

writes  00000.ATTEMPT.tar, _attempts/, 00000.parquet, and last 00000_stats.json

An attempt puts its tar and, hidden, its parquet under names of its own. Then it creates a note that
is named by the pairs: the first one does so, and what it made is the shard for good. Whoever meets
a note without a shard puts the noted parquet and statistics where all look for them: the same bytes
each time. The notes stay, so that an attempt that outlived its driver finds that it came too late.
"""

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

from upath import UPath

from pipeline import storage
from pipeline.raw_shards import STATS, shard_name, stats_in, stats_of_whole, tar_of
from pipeline.storage import Place

_FOLDER = "_attempts"
THREADS = 32
"""Requests at a time, where one process asks for many small things."""


def settled(folder: UPath, name: str, pairs: str) -> dict[str, Any] | None:
    """The statistics of a shard of which an attempt is whole, after seeing to it that all find it.

    None where there is no such attempt.
    """
    done = stats_of_whole(folder, name, pairs)
    if done is not None:
        return done
    note = _note(folder, name, pairs)
    try:
        stats: dict[str, Any] = json.loads(storage.read(note))
    except FileNotFoundError:
        return None
    tar = tar_of(stats)
    try:
        table = storage.read(folder / stats["hidden"])
    except FileNotFoundError:
        table = None
    if table is None or storage.size(folder / tar) != stats["files"][tar]:
        # Somebody took away what it tells of: the next attempt is the first one again.
        storage.remove(note)
        return None
    _show(folder, name, pairs, stats, table)
    return stats


def settle(staged: Path, folder: UPath, name: str, stats: dict[str, Any]) -> dict[str, Any]:
    """Put a staged shard; the statistics of the one that counts afterwards."""
    pairs = stats["pairs"]
    done = settled(folder, name, pairs)
    if done is not None:
        return done
    attempt = uuid4().hex[:16]
    tar, hidden = f"{name}.{attempt}.tar", f"{_FOLDER}/{name}.{attempt}.parquet"
    files = {tar if file == f"{name}.tar" else file: size for file, size in stats["files"].items()}
    stats = stats | {"files": files, "hidden": hidden}
    counts = False
    try:
        storage.put_file(staged / f"{name}.tar", folder / tar)
        storage.put_file(staged / f"{name}.parquet", folder / hidden)
        # Put meanwhile by another attempt, it may be that the stage has long ended.
        done = settled(folder, name, pairs)
        if done is not None:
            return done
        counts = storage.create(_note(folder, name, pairs), _text(stats))
    finally:
        if not counts:
            storage.remove(folder / tar)
            storage.remove(folder / hidden)
    if counts:
        _show(folder, name, pairs, stats, (staged / f"{name}.parquet").read_bytes())
        return stats
    done = settled(folder, name, pairs)
    if done is None:
        raise RuntimeError(f"{folder}: the attempt at raw shard {name} that counted is gone")
    return done


def _show(folder: UPath, name: str, pairs: str, stats: dict[str, Any], table: bytes) -> None:
    """Put what is noted where all look for it."""
    before = stats_in(folder, name)
    if before is not None and before.get("pairs") != pairs:
        storage.remove(folder / f"{name}{STATS}")
    storage.put(folder / f"{name}.parquet", table)
    storage.put(folder / f"{name}{STATS}", _text(stats))


def clear_others(folder: UPath, raw_shards: Iterable[int]) -> None:
    """Remove every shard but `raw_shards`, and of these what belongs to no attempt that counts."""
    kept = set[str]()
    names = [shard_name(raw_shard) for raw_shard in raw_shards]
    lie = {storage.below(folder, place): place for place in storage.files(folder)}
    with ThreadPoolExecutor(THREADS) as pool:
        for name, stats in zip(names, pool.map(lambda n: stats_in(folder, n), names), strict=True):
            if stats is not None:
                note = f"{_FOLDER}/{_note(folder, name, stats['pairs']).name}"
                kept.update([*stats["files"], f"{name}{STATS}", note])
        others = [path for path in lie if path not in kept and _is_of_a_shard(path)]
        # First what says that a shard is whole.
        notes = [path for path in others if path.endswith(".json")]
        list(pool.map(lambda path: storage.remove(lie[path]), notes))
        list(pool.map(lambda path: storage.remove(lie[path]), sorted({*others} - {*notes})))


def _is_of_a_shard(path: str) -> bool:
    return path.removeprefix(f"{_FOLDER}/")[:1].isdecimal()


def _note(folder: Place, name: str, pairs: str) -> Place:
    return folder / _FOLDER / f"{name}-{pairs[:16]}.json"


def _text(stats: dict[str, Any]) -> str:
    return json.dumps(stats, indent=1, sort_keys=True)
