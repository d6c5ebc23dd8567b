"""Staged: what is written appears whole under its name, or not at all."""

import errno
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from pipeline.errors import BadInput

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Of errors that come where there is no more room."""

GO_ON = "run `wit build` again, which goes on where it stopped"
"""What to do when there is room."""


def sync(path: Path) -> None:
    """Wait until the disk has it: a file must not have its name before its bytes."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def scratch_folder() -> str | None:
    """Spark's scratch disk on this machine; the system's own where there is no Spark."""
    folders = os.environ.get("SPARK_LOCAL_DIRS", "").split(",")
    return next((folder for folder in folders if folder and Path(folder).is_dir()), None)


def scratch() -> Path:
    """The folder in which this machine keeps what goes elsewhere in the end."""
    return Path(scratch_folder() or tempfile.gettempdir())


@contextmanager
def room_in(folder: Path, next_step: str) -> Iterator[None]:
    """Tell of a full disk of this machine what there is to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise BadInput(
            f"{socket.gethostname()}: {folder} takes no more ({os.strerror(error.errno)}): make "
            f"room and {next_step}"
        ) from None


@contextmanager
def folder(place: Path) -> Iterator[Path]:
    """A folder beside `place` to write files into, which is moved there in the end; what lay there
    goes only then. An exception leaves everything as it was."""
    place = place.resolve()  # `.` has no name, and a link is no folder to replace
    place.parent.mkdir(parents=True, exist_ok=True)
    new, old = (place.with_name(f".{place.name}.{uuid4().hex}") for _ in range(2))
    new.mkdir()
    try:
        yield new
        for file in (*new.iterdir(), new):
            sync(file)
        if place.exists():
            place.rename(old)
        new.rename(place)
        sync(place.parent)
    finally:
        if old.exists() and not place.exists():
            old.rename(place)
        for left in (new, old):
            shutil.rmtree(left, ignore_errors=True)
