"""Uploads: a folder that is written on a local disk, and put into a store when it is whole."""

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from pipeline import storage
from pipeline.staged import GO_ON, room_in, scratch
from pipeline.storage import Place

_AT_ONCE = 16


@contextmanager
def written_in(place: Place, last: Sequence[str] = ()) -> Iterator[Path]:
    """A folder to write files into: `place` itself on a disk, and one that is put there in the
    end of a store, the files that are named `last` behind all others."""
    if not storage.is_remote(place):
        yield place
        return
    with (
        room_in(scratch(), GO_ON),
        tempfile.TemporaryDirectory(prefix="wit-", dir=scratch()) as folder,
    ):
        yield Path(folder)
        upload(Path(folder), place, last)


def upload(folder: Path, place: Place, last: Sequence[str] = ()) -> None:
    """Put all files below a folder, those that are named `last` behind all others."""
    names = {storage.below(folder, file): Path(str(file)) for file in storage.files(folder)}
    at_once = [name for name in names if name not in last]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(lambda name: storage.put_file(names[name], place / name), at_once))
    for name in last:
        if name in names:
            storage.put_file(names[name], place / name)
