"""Remote: a store elsewhere, whose shards are fetched into the cache, some ahead of their use."""

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from pipeline.errors import BadInput
from pipeline.settings.training import LoaderSettings
from pipeline.trainer.cache import Cache, Part, Waiter, notes_of
from pipeline.trainer.fetching import Folder, GivenUp, Patience, Task, Unavailable
from pipeline.trainer.shard_names import MAX_SMALL_BYTES, Wanted, checked, is_plain, tars_of

T = TypeVar("T")

_SHA256 = re.compile(r"[0-9a-f]{64}")
_AHEAD_SHARE = 2
"""One in so many bytes of the cache may be asked for ahead; the rest is for other processes."""
_REMEMBERED_SECONDS = 600.0
"""For which a shard that could not be had is not asked for again."""
_FAREWELL_SECONDS = 2.0


class RemoteStore:
    """What fsspec reads at an address."""

    def __init__(self, where: str, loader: LoaderSettings, patience: Patience) -> None:
        self.where = where
        self._loader, self._patience = loader, patience
        self._closing, self._lock = threading.Event(), threading.Lock()
        self._folder = Folder(where, patience, self._closing)
        self._cache = Cache(where, loader, self._closing)
        self._running: dict[Wanted, Task[Path]] = {}
        self._wanted: deque[Wanted] = deque()
        self._failed: dict[Wanted, tuple[float, Unavailable]] = {}
        self._longest = 0
        """Bytes of a shard so far, which one of unknown length is taken to have."""

    @cached_property
    def notes(self) -> Path:
        return notes_of(self.where, self._loader)

    def tars(self) -> list[str]:
        try:
            names = self._answer(self._folder.shown, self._folder.names)
        except Unavailable as error:
            raise BadInput(f"{error}: correct the address, or try again later") from None
        return tars_of(names)

    def small(self, name: str) -> bytes | None:
        checked(name)
        return self._answer(name, lambda: self._folder.small(name, MAX_SMALL_BYTES))

    def size(self, name: str) -> int | None:
        checked(name)
        return self._answer(name, lambda: self._folder.size(name))

    def local(self, name: str, size: int | None = None, sha256: str | None = None) -> Path:
        wanted = (checked(name), size, sha256)
        if not _is_sound(wanted):
            raise Unavailable(name, "other checksum", f"{sha256!r} is no sha256")
        while not self._closing.is_set():
            found = self._cache.found(_cached(wanted), size)
            if found is not None:
                return found
            self._raise_if_failed(wanted)
            with self._lock:
                task = self._running.get(wanted) or self._start(wanted, wanted_now=True)
                task.wanted_now = True
            try:
                return task.result(name, self._patience.silence, self._closing)
            except GivenUp:
                continue  # it was fetched ahead and had no room; now it waits for room
        raise _closed(name)

    def ahead(self, wanted: Sequence[Wanted]) -> None:
        left = self._cache.limit // _AHEAD_SHARE
        soon: list[Wanted] = []
        for each in filter(_is_sound, wanted):
            left -= self._longest if each[1] is None else each[1]
            if left < 0:
                break
            soon.append(each)
        # From the last to the first: what is needed first is then the last to be evicted.
        missing = [
            each for each in reversed(soon) if self._cache.found(_cached(each), each[1]) is None
        ]
        with self._lock:
            self._wanted = deque(reversed(missing))
        self._go_on()

    def close(self) -> None:
        with self._lock:
            self._closing.set()
            self._wanted.clear()
            running = list(self._running.values())
        until = time.monotonic() + _FAREWELL_SECONDS
        for task in running:
            task.join(max(0.0, until - time.monotonic()))

    def _answer(self, name: str, ask: Callable[[], T]) -> T:
        if self._closing.is_set():
            raise _closed(name)
        try:
            task = Task[T](lambda _: ask(), f"ask {name}").start()
            return task.result(name, self._patience.silence, self._closing)
        except GivenUp:
            raise _closed(name) from None

    def _raise_if_failed(self, wanted: Wanted) -> None:
        with self._lock:
            when, error = self._failed.get(wanted, (0.0, None))
            if error is None:
                return
            if time.monotonic() - when < _REMEMBERED_SECONDS:
                raise Unavailable(error.name, error.reason, error.detail)
            del self._failed[wanted]

    def _start(self, wanted: Wanted, *, wanted_now: bool) -> Task[Path]:
        task = Task[Path](lambda task: self._fetched(wanted, task), f"fetch {wanted[0]}")
        task.wanted_now = wanted_now
        self._running[wanted] = task.start()
        return task

    def _go_on(self) -> None:
        """Begin with what is wanted ahead, as far as there are hands."""
        with self._lock:
            while self._wanted and len(self._running) < self._loader.fetches:
                wanted = self._wanted.popleft()
                if wanted not in self._running and wanted not in self._failed:
                    with suppress(RuntimeError):  # no more threads: it is fetched when needed
                        self._start(wanted, wanted_now=False)

    def _fetched(self, wanted: Wanted, task: Task[Path]) -> Path:
        name, size, sha256 = wanted
        began = time.monotonic()
        waiter = Waiter(task.heard, lambda: task.wanted_now)

        def fill(part: Part) -> None:
            self._folder.copy(name, size, sha256, part, began)

        try:
            path = self._cache.make(_cached(wanted), size, fill, waiter)
            with suppress(FileNotFoundError):  # evicted at this moment: see `opened`
                self._longest = max(self._longest, path.stat().st_size)
            return path
        except Unavailable as error:
            with self._lock:
                self._failed[wanted] = (time.monotonic(), error)
            raise
        except OSError as error:  # the folder's own are told as Unavailable
            raise BadInput(f"loader.cache: {error}: name a folder that can be written") from None
        finally:
            with self._lock:
                del self._running[wanted]
            self._go_on()


def _is_sound(wanted: Wanted) -> bool:
    name, _, sha256 = wanted
    return is_plain(name) and (sha256 is None or bool(_SHA256.fullmatch(sha256)))


def _cached(wanted: Wanted) -> str:
    """What a shard is called in the cache: one that was made anew is another."""
    name, _, sha256 = wanted
    return name if sha256 is None else f"{sha256[:16]}-{name}"


def _closed(name: str) -> Unavailable:
    return Unavailable(name, "cannot be fetched", "the store is closed")
