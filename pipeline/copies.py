"""Copies: objects of a store that are needed as files, fetched once to each machine's scratch.

A copy is known by its address and by the object's version, so that an object which was changed is
another copy; it is there whole or not at all. Those that nobody used for a week are taken away when
another one is made.
"""

import errno
import fcntl
import hashlib
import os
import shutil
import socket
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from upath import UPath

from pipeline import inputs, storage
from pipeline.errors import BadInput
from pipeline.staged import FULL, scratch

_AGAIN_SECONDS = 300.0
"""For so long a process takes it that an object is still the same."""
_UNUSED_SECONDS = 7 * 86400.0
_NO_ROOM = (*FULL, errno.EACCES, errno.EROFS)

_asked: dict[str, tuple[float, Path]] = {}
_arrived: dict[str, Path] = {}


def local(where: str) -> Path:
    """A file of this machine with what lies at `where`: of a path, itself.

    Raises BadInput for an object that is not there, and where the scratch disk is full.
    """
    if where in _arrived:
        return _arrived[where]
    place = storage.place(where)
    if not storage.is_remote(place):
        return place
    when, known = _asked.get(where, (0.0, Path()))
    if time.monotonic() - when < _AGAIN_SECONDS and known.is_file():
        return known
    found = _copy(place)
    _asked[where] = time.monotonic(), found
    return found


def arrived(files: Mapping[str, str]) -> None:
    """Let `local` give these files of this machine for those paths of the driver's."""
    _arrived.update({path: Path(file) for path, file in files.items()})


def folder() -> Path:
    """Where this machine's copies lie. Raises BadInput where others may write, too."""
    found = scratch() / f"wit-copies-{os.getuid()}"
    with _written(found):
        with suppress(FileExistsError):
            found.mkdir(mode=0o700)
        told = found.lstat()  # of a link itself: old files are swept where it leads
    is_own = stat.S_ISDIR(told.st_mode) and told.st_uid == os.getuid()
    if not is_own or told.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise BadInput(
            f"{socket.gethostname()}: {found} is no folder of this user alone: remove it, or name "
            "another disk with SPARK_LOCAL_DIRS"
        )
    return found


def _copy(place: UPath) -> Path:
    try:
        version = inputs.version(place)
    except FileNotFoundError:
        raise BadInput(
            f"{socket.gethostname()}: {place} does not exist: correct the address in the settings"
        ) from None
    inside = folder()
    digest = hashlib.sha256(f"{place}\n{version}".encode()).hexdigest()[:32]
    # Under its own name, which tells readers its format.
    file = inside / digest / place.name
    with _written(inside), Path(inside, f"{digest}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # many tasks of one machine fetch it once
        if not file.is_file():
            _sweep(inside)
            _fetch(place, file)
        os.utime(file.parent)
    return file


def _fetch(place: UPath, file: Path) -> None:
    staged = file.parent.with_name(f".{file.parent.name}.{uuid4().hex}")
    staged.mkdir()
    try:
        if not storage.fetch(place, staged / file.name):
            raise BadInput(
                f"{socket.gethostname()}: {place} was removed while it was fetched: put it back"
            )
        shutil.rmtree(file.parent, ignore_errors=True)
        staged.rename(file.parent)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _sweep(inside: Path) -> None:
    """Take away what was not used for long, and what a killed process left."""
    oldest = time.time() - _UNUSED_SECONDS
    for old in inside.iterdir():
        try:
            if old.stat().st_mtime >= oldest:
                continue
        except FileNotFoundError:  # another process takes it away
            continue
        if old.is_dir():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.unlink(missing_ok=True)


@contextmanager
def _written(inside: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise BadInput(
            f"{socket.gethostname()}: {inside} cannot be written ({error.strerror}): make room "
            "there, or name a larger disk with SPARK_LOCAL_DIRS"
        ) from error
