"""Placing: a shard's files appear whole, or not at all.

The tar is moved into place last: where it is, the shard is whole. Its parquet tells what it was
made of, so that a run that was interrupted writes no shard twice. In a store, where nothing is
moved, the parquet is put last; a second attempt at the same rows puts the same bytes.
"""

import fcntl
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pyarrow as pa

from pipeline import parquet_files, places, storage
from pipeline import staged as staged_files
from pipeline.staged import scratch, sync
from pipeline.storage import Place

SUFFIXES = (".parquet", ".places", ".tar")
"""Of a shard's files, in the order in which they appear."""
_NOTE = b"shard"
LOCK = "_placing.lock"
"""A file of no meaning afterwards; a late attempt may leave it."""
_OF_ALL = ("sizes.json", "index.json")
CARD = "README.md"
"""What pipeline.card makes."""


class Written(NamedTuple):
    """A shard that is in place: an entry of index.json."""

    name: str
    samples: int
    bytes: int
    sha256: str


def stem_of(number: int) -> str:
    """What the files of a shard begin with."""
    return f"{number:06d}"


def note(written: Written, made_of: str) -> dict[bytes, bytes]:
    """What stands in the parquet's metadata; `made_of` is a digest of the shard's rows."""
    told = {"made_of": made_of, **written._asdict()}
    return {_NOTE: json.dumps(told, sort_keys=True).encode()}


def whole(folder: Place, number: int, made_of: str) -> Written | None:
    """The shard that is in place, if it is made of these rows."""
    stem = stem_of(number)
    try:
        told = _noted(folder / f"{stem}.parquet")
        written = Written(*(told[field] for field in Written._fields))
        with storage.local(folder / f"{stem}.places", str(scratch())) as file:
            lie = places.read(file, written.bytes)
        size = storage.size(folder / f"{stem}.tar")
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException, places.Unfit):
        return None
    is_whole = (size, len(lie)) == (written.bytes, written.samples)
    return written if is_whole and told["made_of"] == made_of else None


def _noted(parquet: Place) -> dict[str, Any]:
    """What a shard's parquet tells of it."""
    told: dict[str, Any] = json.loads((parquet_files.footer(parquet).metadata or {})[_NOTE])
    return told


@contextmanager
def staging(folder: Place, number: int) -> Iterator[dict[str, Path]]:
    """Paths for a shard's files by suffix, in `folder` or, of a store, on this machine's scratch
    disk; what is left there in the end is removed.

    Raises BadInput when the disk is full.
    """
    if storage.is_remote(folder):
        with (
            _room_in(scratch(), folder),
            tempfile.TemporaryDirectory(prefix="wit-", dir=scratch()) as beside,
        ):
            yield {suffix: Path(beside, f"{stem_of(number)}{suffix}") for suffix in SUFFIXES}
        return
    attempt = f".{stem_of(number)}.{uuid4().hex}"
    staged = {suffix: folder / f"{attempt}{suffix}" for suffix in SUFFIXES}
    try:
        with _room_in(folder, folder):
            yield staged
    finally:
        for file in staged.values():
            file.unlink(missing_ok=True)


def place(
    staged: Mapping[str, Path], folder: Place, number: int, made_of: str, written: Written
) -> Written:
    """Move a staged shard into place; the one that is there afterwards.

    Two attempts at one shard may end together: without the lock one could take away the tar of
    which the other has told.
    """
    stem = stem_of(number)
    if storage.is_remote(folder):
        return _put(staged, folder, stem, made_of, written)
    for file in staged.values():
        sync(file)
    with _locked(folder / LOCK):
        done = whole(folder, number, made_of)
        if done is not None:
            return done
        (folder / f"{stem}.tar").unlink(missing_ok=True)
        for suffix in SUFFIXES:
            staged[suffix].replace(folder / f"{stem}{suffix}")
    sync(folder)
    return written


def _put(
    staged: Mapping[str, Path], folder: Place, stem: str, made_of: str, written: Written
) -> Written:
    """Put a staged shard into a store: last what says of what it is made."""
    parquet = folder / f"{stem}.parquet"
    try:
        is_other = _noted(parquet).get("made_of") != made_of
    except FileNotFoundError:
        is_other = False
    except (ValueError, KeyError, pa.ArrowException):
        is_other = True
    if is_other:  # of this one's rows there may be a second attempt, which has told of it
        storage.remove(parquet)
    for suffix in (".tar", ".places", ".parquet"):
        storage.put_file(staged[suffix], folder / f"{stem}{suffix}")
    return written


def write_index(
    folder: Place, written: Sequence[Written], samples_per_shard: int
) -> dict[str, Any]:
    """Write index.json, and sizes.json: the names and counts that open_clip reads. The index."""
    shards = [shard._asdict() for shard in sorted(written)]
    samples = sum(shard.samples for shard in written)
    index = {"samples_per_shard": samples_per_shard, "samples": samples, "shards": shards}
    sizes = {shard["name"]: shard["samples"] for shard in shards}
    for name, told in zip(_OF_ALL, (sizes, index), strict=True):
        write_text(folder, name, json.dumps(told, indent=1))
    return index


def write_text(folder: Place, name: str, text: str) -> None:
    """Write a file about all shards, staged and moved into place when whole."""
    if storage.is_remote(folder):
        storage.put(folder / name, text)
        return
    staged = folder / f".{name}.{uuid4().hex}"
    try:
        with _room_in(folder, folder):
            staged.write_text(text, encoding="utf-8")
            sync(staged)
            staged.replace(folder / name)
    finally:
        staged.unlink(missing_ok=True)


def clear_unfinished(folder: Place) -> None:
    """Remove what tells of all shards, and what killed attempts left behind."""
    for name in _OF_ALL:
        storage.remove(folder / name)
    if not storage.is_remote(folder):
        _clear_staged(folder)


def _clear_staged(folder: Path) -> None:
    staged = [path for name in (*_OF_ALL, CARD) for path in folder.glob(f".{name}.*")]
    # Places are staged twice: by the module that writes them, too.
    for path in (*staged, *folder.glob(".[0-9]*.*"), *folder.glob("..[0-9]*.*")):
        path.unlink(missing_ok=True)


def clear_others(folder: Place, shards: int) -> None:
    """Remove every shard from number `shards` on: of a plan that is no longer followed.

    And what second attempts at a task leave, which Spark kills when the first one has ended.
    """
    is_remote = storage.is_remote(folder)
    found: list[Place] = storage.files(folder) if is_remote else [*folder.glob("[0-9]*.*")]
    files = [path for path in found if path.suffix in SUFFIXES and path.parent == folder]
    others = [path for path in files if path.stem.isdecimal() and int(path.stem) >= shards]
    # First what says that a shard is whole.
    first = ".parquet" if is_remote else ".tar"
    for path in sorted(others, key=lambda path: (path.suffix != first, str(path))):
        storage.remove(path)
    if storage.is_remote(folder):
        return
    _clear_staged(folder)
    (folder / LOCK).unlink(missing_ok=True)


def _room_in(folder: Path, shards: Place) -> AbstractContextManager[None]:
    return staged_files.room_in(
        folder, f"run `wit shard --run {shards.parent}`, which goes on where it stopped"
    )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Alone among all processes; a lock of the system's, gone with the process that holds it."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
