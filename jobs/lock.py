"""Lock: one process at a time works on a run directory, and the file says which one it is.

The lock of the file `.lock` is the truth among the processes of a machine. Machines that share the
folder may each have locks of their own: so the file names its owner, whose time is renewed while
it works, and a fresh name of another machine is as good as a lock.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import IO

import psutil

from pipeline.errors import WitError

LOCK = ".lock"
BEAT_SECONDS = 30.0
STALE_SECONDS = 300.0
_TRIES, _TRY_SECONDS = 3, 0.1


class RunIsBusy(WitError):
    """Another process works on the run directory."""


@dataclass(frozen=True)
class Owner:
    """A process that works on a run directory."""

    host: str
    pid: int
    since: float

    @property
    def is_here(self) -> bool:
        return self.host == socket.gethostname()

    def __str__(self) -> str:
        return f"pid {self.pid} on {self.host}, since {shown(self.since)}"


class Hold:
    """A run directory that this process works on."""

    def __init__(self, path: Path, owner: Owner) -> None:
        self._path, self._owner = path, owner

    def check(self) -> None:
        """Raises RunIsBusy when another machine took over what stood still for too long."""
        found = self._taken_by()
        if found is not None:
            raise RunIsBusy(
                f"{self._path.parent} was taken over by {found}, while this process showed no sign "
                f"of life for {STALE_SECONDS / 60:.0f} minutes: leave it to that one, or build "
                "again"
            )

    def beat(self, done: threading.Event) -> None:
        """Renew the time of the file until `done`, or until it names another owner."""
        while not done.wait(BEAT_SECONDS) and self._taken_by() is None:
            # A folder that is gone, or cannot be reached, is met by the stage as well.
            with suppress(OSError):
                os.utime(self._path)

    def _taken_by(self) -> str | None:
        """Who has it now; None where it is this process, or the file cannot be reached."""
        try:
            found = _owner_in(self._path.read_bytes())
        except FileNotFoundError:
            found = None
        except OSError:
            return None
        if found == self._owner:
            return None
        return "another `wit`, which has ended" if found is None else str(found)


@contextmanager
def alone(root: Path, say: Callable[[str], None] | None = None) -> Iterator[Hold]:
    """Hold the run directory `root`. Raises RunIsBusy when another process does.

    `say` is told when it is taken over from another machine that shows no sign of life.
    """
    path = root / LOCK
    with path.open("a+", encoding="utf-8") as file:
        is_locked = _locked(file, fcntl.LOCK_EX)
        before = _owner(path)
        if is_locked is False:
            raise RunIsBusy(_busy(root, before))
        if before is not None and _stands_in_the_way(before, path, has_locks=is_locked is True):
            raise RunIsBusy(_busy(root, before))
        if before is not None and not before.is_here and say is not None:
            say(f"{root}: taken over from {before}, which shows no sign of life")
        me = Owner(socket.gethostname(), os.getpid(), time.time())
        _write(file, json.dumps(asdict(me)))
        hold = Hold(path, me)
        try:
            with beating(hold.beat):
                yield hold
        finally:
            if _owner(path) == me:
                _write(file, "")


@contextmanager
def beating(beat: Callable[[threading.Event], None]) -> Iterator[None]:
    """Give signs of life as long as the block runs; `beat` ends when its event is set."""
    done = threading.Event()
    thread = threading.Thread(target=beat, args=(done,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(timeout=5)


def owner(root: Path) -> Owner | None:
    """Who works on `root`, or did until it was killed; None where the last one ended by itself."""
    return _owner(root / LOCK)


def is_held(root: Path) -> bool | None:
    """Whether a process of this machine holds `root`; None where nothing can be locked there."""
    try:
        with (root / LOCK).open("rb") as file:
            free = _locked(file, fcntl.LOCK_SH)
    except FileNotFoundError:
        return False
    return None if free is None else not free


def silent_seconds(root: Path) -> float:
    """Seconds since the last beat of the owner of `root`."""
    try:
        return max(0.0, time.time() - (root / LOCK).stat().st_mtime)
    except FileNotFoundError:
        return float("inf")


def shown(seconds: float) -> str:
    """A time, for a person."""
    return f"{datetime.fromtimestamp(seconds).astimezone():%Y-%m-%d %H:%M:%S %Z}"


def _locked(file: IO[str] | IO[bytes], kind: int) -> bool | None:
    """Whether the lock was got; None where the file system has none."""
    for _ in range(_TRIES):
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            # `wit status` looks at a lock for an instant.
            time.sleep(_TRY_SECONDS)
        except OSError:
            return None
        else:
            return True
    return False


def _stands_in_the_way(before: Owner, path: Path, *, has_locks: bool) -> bool:
    if before.is_here and (has_locks or not psutil.pid_exists(before.pid)):
        return False
    # Both times are those of the file system: the clocks of the machines may differ.
    probe = path.with_name(f"{LOCK}.{socket.gethostname()}.{os.getpid()}")
    probe.touch()
    try:
        return probe.stat().st_mtime - path.stat().st_mtime < STALE_SECONDS
    finally:
        probe.unlink(missing_ok=True)


def _busy(root: Path, before: Owner | None) -> str:
    is_run = (root / "run.toml").exists()
    watch = f", or watch it with `wit status --run {root}`" if is_run else ""
    if before is None:
        return f"{root} is being worked on by another `wit`: wait for it to end{watch}"
    told = f"{root} is being worked on by another `wit` ({before})"
    if not before.is_here:
        minutes = f"{STALE_SECONDS / 60:.0f} minutes"
        return f"{told}: wait for it to end{watch}; {minutes} after it was killed it is free"
    if not psutil.pid_exists(before.pid):
        return f"{told}: it has ended, but a process that it started holds the lock: end that one"
    return f"{told}: wait for it to end{watch}"


def _write(file: IO[str], text: str) -> None:
    file.truncate(0)
    file.write(text)
    file.flush()
    os.fsync(file.fileno())


def _owner(path: Path) -> Owner | None:
    try:
        return _owner_in(path.read_bytes())
    except OSError:
        return None


def _owner_in(raw: bytes) -> Owner | None:
    try:
        told = json.loads(raw)
        return Owner(str(told["host"]), int(told["pid"]), float(told["since"]))
    except (ValueError, KeyError, TypeError):
        return None  # of an older `wit`, or at the moment half written
