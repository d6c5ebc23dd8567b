"""Store lock: one process at a time works on a run in a store, and an object says which one it is.

The object is created where there is none, and its time renewed while its owner works. When it is
old by the clock of the store, another takes the run over: of several that try at once, the one
that creates a note of it. Whoever was taken over finds another name in the object.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from jobs.lock import BEAT_SECONDS, STALE_SECONDS, RunIsBusy, beating
from pipeline import storage
from pipeline.errors import WitError
from pipeline.storage import Place

LOCK = "_lock.json"


@dataclass(frozen=True)
class Owner:
    """A process that works on a run."""

    owner: str
    host: str
    machine: str
    pid: int
    since: str

    @property
    def has_ended(self) -> bool:
        """Whether it is known to have: only the machine that it ran on can know."""
        if not self.machine or self.machine != _machine():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            pass
        return False

    def __str__(self) -> str:
        return f"pid {self.pid} on {self.host}, since {self.since}"


class Hold:
    """A run that this process works on."""

    def __init__(self, where: Place, owner: Owner) -> None:
        self._where, self._owner = where, owner

    def check(self) -> None:
        """Raises RunIsBusy when another process took over what stood still for too long."""
        found = owner_of(self._where)
        if found != self._owner:
            who = "nobody: its lock was removed" if found is None else f"another process ({found})"
            raise RunIsBusy(
                f"{self._where.parent} is worked on by {who}; this process gave no sign of life "
                f"for {STALE_SECONDS / 60:.0f} minutes: leave it to that one, or build again"
            )

    def beat(self, done: threading.Event) -> None:
        """Renew the object until `done`, or until it names another owner."""
        while not done.wait(BEAT_SECONDS):
            # A store that cannot be reached is met by the stage as well.
            with suppress(WitError, OSError):
                if owner_of(self._where) != self._owner:
                    return
                storage.put(self._where, json.dumps(asdict(self._owner)))


@contextmanager
def alone(root: Place, say: Callable[[str], None] | None = None) -> Iterator[Hold]:
    """Hold the run at `root`. Raises RunIsBusy when another process does.

    `say` is told when it is taken over from one that gives no sign of life.
    """
    since = datetime.now(UTC).isoformat(timespec="seconds")
    me = Owner(uuid4().hex, socket.gethostname(), _machine(), os.getpid(), since)
    where = root / LOCK
    if not _created(where, me):
        _take_over(root, me, say)
    hold = Hold(where, me)
    try:
        with beating(hold.beat):
            yield hold
    finally:
        with suppress(WitError, OSError):  # where it stays, it will be found to be old
            if owner_of(where) == me:
                storage.remove(where)


def _created(where: Place, me: Owner) -> bool:
    text = json.dumps(asdict(me))
    # It may go in the moment between being met and being read.
    return storage.create(where, text) or (
        storage.size(where) is None and storage.create(where, text)
    )


def owner_of(where: Place) -> Owner | None:
    """Whom a lock names; None where nobody holds it."""
    try:
        return Owner(**json.loads(storage.read(where)))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def silent_seconds(root: Place) -> float:
    """Seconds since the owner of `root` renewed its lock, by this machine's clock and the store's:
    whoever looks may not be allowed to write there."""
    try:
        return max(0.0, time.time() - storage.modified(root / LOCK).timestamp())
    except FileNotFoundError:
        return float("inf")


def _take_over(root: Place, me: Owner, say: Callable[[str], None] | None) -> None:
    """Put `me` in the place of an owner that has stopped. Raises RunIsBusy where it has not."""
    where = root / LOCK
    before = owner_of(where)
    name = "0" if before is None else before.owner
    note = root / f"_lock-{name}.taken"
    if before is None or not before.has_ended:
        silent = _age(root, where)
        if silent is None or silent < STALE_SECONDS:
            raise RunIsBusy(_busy(root, before, silent or 0.0))
    if not storage.create(note, me.owner):
        seconds = _age(root, note)
        if seconds is not None and seconds > STALE_SECONDS:
            storage.remove(note)  # who wrote it was killed in the same moment
        raise RunIsBusy(f"{root} is just being taken over by another `wit`: try again in a minute")
    if owner_of(where) != before:  # another took it over, and has removed its note
        storage.remove(note)
        raise RunIsBusy(f"{root} was just taken over by another `wit`: try again in a minute")
    storage.put(where, json.dumps(asdict(me)))
    storage.remove(note)
    if say is not None:
        said = "which has ended" if before and before.has_ended else "which gives no sign of life"
        say(f"{root}: taken over from {before or 'an unknown process'}, {said}")


def _busy(root: Place, before: Owner | None, silent: float) -> str:
    who = "another `wit`" if before is None else f"another `wit` ({before})"
    minutes = f"{STALE_SECONDS / 60:.0f} minutes"
    return (
        f"{root} is being worked on by {who}, its last sign of life {silent:.0f} s ago: wait for "
        f"it to end; {minutes} after it was killed the run is free"
    )


def _age(root: Place, where: Place) -> float | None:
    """Seconds since an object was written, by the store's clock alone; None where it is gone."""
    probe = root / f"_clock-{uuid4().hex}"
    storage.put(probe, b"")
    try:
        return (storage.modified(probe) - storage.modified(where)).total_seconds()
    except FileNotFoundError:
        return None
    finally:
        storage.remove(probe)


def _machine() -> str:
    """What tells this machine, or container, from others that have its name; "" where nothing."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""
