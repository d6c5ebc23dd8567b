"""Hold: one process at a time works on a run, on a disk or in a store; who that is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Protocol

from jobs import lock, store_lock
from jobs.lock import Owner
from pipeline import storage
from pipeline.storage import Place


class Held(Protocol):
    """A run that this process works on."""

    def check(self) -> None:
        """Raises RunIsBusy when another process took the run over."""


@contextmanager
def alone(root: Place, say: Callable[[str], None] | None = None) -> Iterator[Held]:
    """Hold the run at `root`. Raises RunIsBusy when another process does.

    `say` is told when it is taken over from one that shows no sign of life.
    """
    if storage.is_remote(root):
        with store_lock.alone(root, say) as in_store:
            yield in_store
    else:
        with lock.alone(root, say) as on_disk:
            yield on_disk


def owner(root: Place) -> Owner | None:
    """Who works on `root`, or did until it was killed; None where the last one ended by itself."""
    if not storage.is_remote(root):
        return lock.owner(root)
    found = store_lock.owner_of(root / store_lock.LOCK)
    if found is None:
        return None
    return Owner(found.host, found.pid, datetime.fromisoformat(found.since).timestamp())


def has_ended(root: Place, who: Owner) -> bool:
    """Whether `who` works on the run no more: only the machine that it ran on can know."""
    if storage.is_remote(root):
        found = store_lock.owner_of(root / store_lock.LOCK)
        return found is None or found.has_ended
    return who.is_here and lock.is_held(root) is False


def silent_seconds(root: Place) -> float:
    """Seconds since the last sign of life of the owner of `root`."""
    if storage.is_remote(root):
        return store_lock.silent_seconds(root)
    return lock.silent_seconds(root)
