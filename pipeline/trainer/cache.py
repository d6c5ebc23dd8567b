"""Cache: fetched shards in a folder of bounded size that many processes share.

CACHE/shards/STORE/NAME        a whole shard; its time of change is that of its last use
CACHE/shards/STORE/.NAME.part  one in the making, as long as it will be; locked by who makes it
CACHE/.lock                    held for the moment in which room is made
CACHE/notes/STORE/             what others keep about the shards; not counted

A process that is killed leaves a part that nobody has locked, which the next one removes.
"""

import errno
import fcntl
import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import BadInput
from pipeline.settings.training import LoaderSettings
from pipeline.trainer.fetching import GivenUp, without_login

_FIRST_ROOM = 1 << 26
"""Bytes that a shard of unknown length gets at first; then twice as many, again and again."""
_LOOK_SECONDS = 0.02
"""Between two looks at a lock: the system's own wait for one has no end."""
_STORE = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Waiter:
    """Who wants a shard."""

    heard: Callable[[], None]
    """Called whenever something moves."""
    is_patient: Callable[[], bool]
    """Whether to wait for room that others' parts take."""


def notes_of(where: str, loader: LoaderSettings) -> Path:
    """The folder in the cache for files about the shards at `where`."""
    return _made(_root(loader) / "notes" / _store(where))


class Cache:
    """The shards of one store, in a folder that is bounded for all stores together."""

    def __init__(self, where: str, loader: LoaderSettings, closing: threading.Event) -> None:
        self.limit = loader.cache_bytes
        self._root, self._closing = _root(loader), closing
        self._folder = _made(self._root / "shards" / _store(where))

    def found(self, name: str, size: int | None) -> Path | None:
        """The shard `name` where it is there and as long as it must be; it counts as used now."""
        path = self._folder / name
        try:
            length = path.stat().st_size
        except FileNotFoundError:
            return None
        if size is not None and length != size:
            return None
        self._use(path)
        return path

    def make(
        self, name: str, size: int | None, fill: Callable[["Part"], None], waiter: Waiter
    ) -> Path:
        """The shard `name`, written by `fill` unless another process does so first."""
        path, staged = self._folder / name, self._folder / f".{name}.part"
        while (found := self.found(name, size)) is None:
            with self._part(staged, waiter) as part:
                if part is None:
                    continue  # another process made it just now; or failed, and it is our turn
                try:
                    found = self.found(name, size)
                    if found is None:
                        fill(part)
                        part.finish()
                        self._use(staged)
                        with self._alone():  # who counts the files sees the part or the shard
                            staged.replace(path)
                        return path
                except BaseException:
                    staged.unlink(missing_ok=True)
                    raise
                staged.unlink(missing_ok=True)
        return found

    @contextmanager
    def _part(self, staged: Path, waiter: Waiter) -> Iterator["Part | None"]:
        """The locked part, None when another had it until now."""
        descriptor = os.open(staged, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            moved = 0
            while not _locked(descriptor):
                if self._closing.wait(_LOOK_SECONDS):
                    raise GivenUp
                now = os.fstat(descriptor).st_mtime_ns
                if now != moved:
                    moved = now
                    waiter.heard()
            is_ours = _is_at(descriptor, staged)
            yield Part(descriptor, self, waiter) if is_ours else None
        finally:
            # A fork of this process may hold the file open, and the lock with it.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    def _use(self, path: Path) -> None:
        now = time.time_ns()
        with suppress(OSError):  # evicted at this moment, or another user's
            os.utime(path, ns=(now, now))

    def room(self, descriptor: int, size: int, waiter: Waiter) -> None:
        """Let the open part be `size` long, and remove what was used least recently for it."""
        if size > self.limit:
            raise BadInput(
                f"loader.cache_bytes: a shard of {size:,} bytes does not fit into {self.limit:,}: "
                f"raise it to {4 * size:,} or more"
            )
        seen = 0
        while True:
            with self._alone():
                parts = self._make_room(descriptor, size)
            if parts is None:
                return
            if not waiter.is_patient():
                raise GivenUp
            if parts != seen:
                seen = parts
                waiter.heard()
            if self._closing.wait(5 * _LOOK_SECONDS):
                raise GivenUp

    def evict_one(self) -> bool:
        """Remove the shard that was used least recently; False when there is none."""
        with self._alone():
            kept, _ = self._census(-1)
            for _, _, path in kept[:1]:
                path.unlink(missing_ok=True)
        return bool(kept)

    def _make_room(self, descriptor: int, size: int) -> int | None:
        """None when there is room now; else a number that changes when other parts move."""
        kept, parts = self._census(os.fstat(descriptor).st_ino)
        used = sum(length for _, length, _ in (*kept, *parts))
        in_parts = sum(length for _, length, _ in parts)
        if in_parts + size > self.limit:
            return max(moved for moved, _, _ in parts)
        for _, length, path in kept:
            if used + size <= self.limit:
                break
            path.unlink(missing_ok=True)
            used -= length
        os.ftruncate(descriptor, size)
        return None

    def _census(self, ours: int) -> tuple[list[tuple[int, int, Path]], list[tuple[int, int, Path]]]:
        """Time of use, length and path: of whole shards, the oldest first, and of others' parts."""
        kept, parts = [], []
        for store in os.scandir(self._root / "shards"):
            if not _STORE.fullmatch(store.name):
                continue
            for entry in os.scandir(store.path):
                try:
                    told = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                path = Path(entry.path)
                is_part = entry.name.startswith(".") and entry.name.endswith(".part")
                if not entry.name.startswith("."):
                    kept.append((told.st_mtime_ns, told.st_size, path))
                elif is_part and told.st_ino != ours and not _removed_dead(path):
                    parts.append((told.st_mtime_ns, told.st_size, path))
        return sorted(kept), parts

    @contextmanager
    def _alone(self) -> Iterator[None]:
        descriptor = os.open(self._root / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            while not _locked(descriptor):
                if self._closing.wait(_LOOK_SECONDS):
                    raise GivenUp
            yield
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)


class Part:
    """A shard in the making."""

    def __init__(self, descriptor: int, cache: Cache, waiter: Waiter) -> None:
        self._descriptor, self._cache, self._waiter = descriptor, cache, waiter
        self._length, self._room = 0, 0

    def restart(self, size: int | None) -> None:
        os.ftruncate(self._descriptor, 0)
        self._length = 0
        self._room = min(_FIRST_ROOM, self._cache.limit) if size is None else size
        self._cache.room(self._descriptor, self._room, self._waiter)

    def write(self, block: bytes) -> None:
        left = memoryview(block)
        needed = self._length + len(left)
        if needed > self._room:
            self._room = max(needed, min(2 * self._room, self._cache.limit))
            self._cache.room(self._descriptor, self._room, self._waiter)
        while left:
            try:
                written = os.pwrite(self._descriptor, left, self._length)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not self._cache.evict_one():
                    raise BadInput(
                        f"loader.cache: {error.strerror or error}: give it a folder with more "
                        "room, or lower loader.cache_bytes"
                    ) from None
                continue
            self._length += written
            left = left[written:]
        self._waiter.heard()

    def finish(self) -> None:
        os.ftruncate(self._descriptor, self._length)
        # Else a shard may have its name and length after a power cut, and not its bytes.
        os.fsync(self._descriptor)


def _root(loader: LoaderSettings) -> Path:
    if loader.cache is not None:
        return Path(loader.cache)
    told = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        base = told if told.is_absolute() else Path.home() / ".cache"
    except RuntimeError as error:
        raise BadInput(f"loader.cache: {error}: name a folder") from None
    return base / "webimagetext"


def _store(where: str) -> str:
    return hashlib.sha256(without_login(where).encode()).hexdigest()[:32]


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"loader.cache: {error}: name a folder that can be written") from None
    return folder


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether `path` still names the open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _removed_dead(part: Path) -> bool:
    """Remove a part whose maker was killed; False when it lives."""
    try:
        descriptor = os.open(part, os.O_RDWR)
    except FileNotFoundError:
        return True
    try:
        if not _locked(descriptor):
            return False
        if _is_at(descriptor, part):
            part.unlink(missing_ok=True)
        return True
    finally:
        os.close(descriptor)
