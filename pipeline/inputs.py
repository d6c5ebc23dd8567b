"""Inputs: the files from outside the run, each named by a path or by an address.

The driver looks whether they are there, and the workers read them. A path is read by every machine,
and so must lie in a folder that all of them see; an address is read by all in the same way.
"""

import errno
import glob
import os
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from io import BufferedReader
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from pipeline import storage
from pipeline.errors import BadInput
from pipeline.storage import Place
from pipeline.store_calls import answer

T = TypeVar("T")
S = TypeVar("S")

_AT_ONCE = 32
"""Questions to a store: each waits some tens of milliseconds for its answer."""


def kind(where: str | Place) -> Literal["file", "folder"] | None:
    """What lies there; None for nothing."""
    place = storage.place(where)
    if not storage.is_remote(place):
        return "file" if place.is_file() else "folder" if place.is_dir() else None
    try:
        found = answer(place, lambda fs, path: fs.info(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    return "folder" if found["type"] == "directory" else "file"


def fitting(pattern: str) -> list[str]:
    """The paths or addresses that fit a pattern, where `*` stands for anything, sorted."""
    place = storage.place(pattern)
    if not storage.is_remote(place):
        return sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - from the root, too

    def fit(fs: Any, path: str) -> list[str]:
        fs.invalidate_cache()
        return [fs.unstrip_protocol(name) for name in fs.glob(path)]

    return sorted(str(storage.place(name)) for name in answer(place, fit))


def version(where: str | Place) -> str:
    """What tells this file from another one at the same place. Raises FileNotFoundError."""
    told = storage.stamp(storage.place(where))
    if told is None:
        raise FileNotFoundError(str(where))
    return told


def opened(where: str) -> BufferedReader:
    """The file there, from its beginning. Raises FileNotFoundError."""
    return cast(BufferedReader, storage.opened(storage.place(where)))


def each(ask: Callable[[S], T], among: Iterable[S]) -> list[T]:
    """`ask` of each of some files: of those in a store many at once."""
    some = list(among)
    if not any(map(storage.is_address, cast(list[str], some))):
        return [ask(one) for one in some]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(ask, some))


def expect(path: str) -> None:
    """Raise BadInput where this machine does not see a path that the driver has seen."""
    if storage.is_address(path) or os.access(path, os.R_OK):
        return
    machine = socket.gethostname()
    try:
        Path(path).stat()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            why = f"cannot be read ({error.strerror})"
            raise BadInput(f"{machine}: {path} {why}: allow it to the workers' user") from None
        raise BadInput(
            f"{machine}: {path} is not on this machine, though the driver has seen it: put it "
            "back, mount its folder on every worker, or give an address that all of them can read "
            "(s3://...)"
        ) from None
    raise BadInput(
        f"{machine}: {path} may not be read by the user that the workers run as, though the driver "
        "may: allow it"
    )
