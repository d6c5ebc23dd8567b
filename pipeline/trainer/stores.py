"""Stores: where shards lie, a folder of this machine or anything that fsspec reads.

Remote shards are fetched whole into a cache of bounded size, once for all processes, and ahead of
their use; what is read is always a local file. A store is made anew in each process.
"""

import hashlib
import os
import stat
import tempfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

from pipeline.errors import BadInput
from pipeline.settings.training import LoaderSettings
from pipeline.trainer.cache import notes_of
from pipeline.trainer.fetching import Patience, Unavailable
from pipeline.trainer.remote import RemoteStore
from pipeline.trainer.shard_names import MAX_SMALL_BYTES, Wanted, checked, is_plain, tars_of

__all__ = ["Patience", "Store", "Unavailable", "Wanted", "is_plain", "open_store", "opened"]

_OPENINGS = 16


class Store(Protocol):
    """Where shards lie."""

    @property
    def where(self) -> str:
        """The folder or address that it was opened with."""

    @property
    def notes(self) -> Path:
        """A folder for files about the shards: beside them where that can be written."""

    def tars(self) -> list[str]:
        """The names of all *.tar, sorted."""

    def small(self, name: str) -> bytes | None:
        """The bytes of a file that is no shard; None when it is not there."""

    def size(self, name: str) -> int | None:
        """The length of a file; None when it is not there, or nobody tells."""

    def local(self, name: str, size: int | None = None, sha256: str | None = None) -> Path:
        """A shard as a file of this machine, as long as `size`; waits while it is fetched.

        Raises Unavailable. The file may be evicted as soon as it has a path: see `opened`.
        """

    def ahead(self, wanted: Sequence[Wanted]) -> None:
        """Fetch in the background, in this order, and forget what was asked before.

        Begin with the shards that are in use: what stands here does not evict one another.
        """

    def close(self) -> None: ...


def open_store(
    where: str | Path, loader: LoaderSettings, patience: Patience | None = None
) -> Store:
    """The store at `where`: a folder, or an address such as s3://bucket/shards."""
    told = str(where)
    for scheme in ("file://", "local://"):
        told = told.removeprefix(scheme)
    if isinstance(where, Path) or not ("://" in told or "::" in told):
        return _Local(Path(told), loader)
    return RemoteStore(told, loader, patience or Patience())


def opened(store: Store, wanted: Wanted) -> int:
    """A descriptor of a shard: an open file stays whole, whoever evicts it."""
    for _ in range(_OPENINGS):
        try:
            return os.open(store.local(*wanted), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
    raise BadInput(
        f"loader.cache_bytes: {wanted[0]} was evicted {_OPENINGS} times before it was opened: "
        "raise it, so that it holds the shards that all processes read at a time"
    )


class _Local:
    """A folder of this machine."""

    def __init__(self, folder: Path, loader: LoaderSettings) -> None:
        if not folder.is_dir():
            raise BadInput(f"{folder} is no folder of shards: run `wit shard`, or correct the path")
        self.where = str(folder)
        self._folder, self._loader = folder, loader
        self._sums: dict[str, str] = {}

    @cached_property
    def notes(self) -> Path:
        try:
            # Permissions do not tell it all: only a file that was made proves it.
            with tempfile.TemporaryFile(dir=self._folder):
                return self._folder
        except OSError:
            return notes_of(str(self._folder.resolve()), self._loader)

    def tars(self) -> list[str]:
        return tars_of([path.name for path in self._folder.iterdir() if path.is_file()])

    def small(self, name: str) -> bytes | None:
        try:
            with (self._folder / checked(name)).open("rb") as file:
                found = file.read(MAX_SMALL_BYTES + 1)
        except (FileNotFoundError, IsADirectoryError):
            return None
        except PermissionError as error:
            raise BadInput(f"{error}: let this user read it") from None
        except OSError as error:
            raise Unavailable(name, "cannot be fetched", str(error)) from None
        if len(found) > MAX_SMALL_BYTES:
            raise Unavailable(name, "cannot be fetched", f"longer than {MAX_SMALL_BYTES:,} bytes")
        return found

    def size(self, name: str) -> int | None:
        told = self._told(checked(name))
        return None if told is None else told.st_size

    def local(self, name: str, size: int | None = None, sha256: str | None = None) -> Path:
        told = self._told(checked(name))
        if told is None:
            raise Unavailable(name, "missing")
        if size is not None and told.st_size != size:
            detail = f"{told.st_size:,} bytes, not {size:,}"
            raise Unavailable(name, "other length", detail)
        path = self._folder / name
        if not os.access(path, os.R_OK):
            raise BadInput(f"{path} may not be read: let this user read it")
        if self._loader.check_sums and sha256 is not None:
            found = self._sum(path)
            if found != sha256:
                raise Unavailable(name, "other checksum", f"{found}, not {sha256}")
        return path

    def ahead(self, wanted: Sequence[Wanted]) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""

    def _told(self, name: str) -> os.stat_result | None:
        try:
            told = (self._folder / name).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise Unavailable(name, "cannot be fetched", str(error)) from None
        return told if stat.S_ISREG(told.st_mode) else None

    def _sum(self, path: Path) -> str:
        if path.name not in self._sums:
            try:
                with path.open("rb") as file:
                    self._sums[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise Unavailable(path.name, "cannot be fetched", str(error)) from None
        return self._sums[path.name]
