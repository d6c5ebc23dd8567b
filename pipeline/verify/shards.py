"""Shards: everything that is asked of one shard."""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pipeline import places, storage
from pipeline.errors import BadInput
from pipeline.verify import sidecars, stranger
from pipeline.verify.archive import Archive
from pipeline.verify.findings import Findings
from pipeline.verify.keys import digest

_MOST_OF_A_KIND = 100
"""That are kept of one shard."""


@dataclass(frozen=True)
class Promise:
    """What an index says of a shard."""

    name: str
    samples: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Task:
    """A shard to be verified."""

    folder: str
    name: str
    promise: Promise | None
    """None where nothing is promised: of shards that somebody else made."""
    deep: bool
    """Whether images are decoded, and the shard is read by the webdataset package."""


@dataclass
class Seen:
    """What there is of a shard."""

    samples: int = 0
    keys: bytes = b""
    """16 bytes of each key, each once; see `keys`."""
    found: Findings = field(default_factory=lambda: Findings(_MOST_OF_A_KIND))


def verify(task: Task) -> Seen:
    """Verify one shard. Nothing that is wrong with it is raised."""
    seen = Seen()
    try:
        with _here(task) as path:
            _verify(task, path, seen)
    except OSError as error:
        seen.found.add("a file that cannot be read", task.name, detail=error.strerror or str(error))
    except BadInput as error:  # of a store
        seen.found.add("a file that cannot be read", task.name, detail=str(error))
    return seen


@contextmanager
def _here(task: Task) -> Iterator[Path]:
    """The shard on this machine, with what lies beside it; fetched from a store for a while."""
    folder = storage.place(task.folder)
    if not storage.is_remote(folder):
        yield folder / task.name
        return
    with tempfile.TemporaryDirectory(prefix="wit-verify-") as scratch:
        beside = [task.name.removesuffix(".tar") + ".parquet", places.beside(task.name)]
        for name in [task.name, *(beside if task.promise is not None else [])]:
            # What is not there is told as it is on a disk.
            storage.fetch(folder / name, Path(scratch, name))
        yield Path(scratch, task.name)


def _verify(task: Task, path: Path, seen: Seen) -> None:
    found = seen.found
    if not path.is_file():  # to open a pipe would take forever
        found.add("no such shard", task.name)
        return
    if task.promise is not None:
        _check_sums(path, task.promise, found)
    archive = Archive(path, found, ours=task.promise is not None, deep=task.deep)
    archive.read()
    samples = archive.samples
    seen.samples = len(samples)
    seen.keys = b"".join(digest(key) for key in archive.keys_once())
    if not samples:
        found.add("an empty shard", task.name)
    if task.promise is not None:
        if len(samples) != task.promise.samples:
            told = f"{len(samples):,}, and index.json says {task.promise.samples:,}"
            found.add("another number of samples", task.name, detail=told)
        sidecars.compare_parquet(path, samples, found)
        sidecars.compare_places(path, samples, found)
    if task.deep:
        stranger.compare(path, samples, found, is_plain=archive.is_plain)


def _check_sums(path: Path, promise: Promise, found: Findings) -> None:
    length = path.stat().st_size
    if length != promise.bytes:
        told = f"{length:,} bytes, and index.json says {promise.bytes:,}"
        found.add("another length", promise.name, detail=told)
        return  # the checksum cannot fit
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != promise.sha256:
            found.add("another checksum", promise.name, detail="its bytes have changed")
