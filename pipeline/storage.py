"""Storage: one notion of a place, on a disk or in an object store.

A place on a disk is a Path, and any other a UPath of universal-pathlib, read and written through
fsspec. In a store nothing is renamed, since to rename is to copy there: an object is put whole, in
several parts where it is large, and is not seen before its last byte has come. What lies in a
store is named by an address such as s3://bucket/runs/one, from which any process makes the place
again.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast
from uuid import uuid4

from typing_extensions import TypeIs
from upath import UPath

from pipeline import store_errors
from pipeline.errors import BadInput

Place = Path | UPath
T = TypeVar("T")

_TRIES = 5
_FIRST_WAIT_SECONDS = 1.0
"""Twice as long before each further try: 15 seconds in all. In each the client of S3 asks five
times, within a second or two."""
PART_BYTES = 1 << 24
"""Of an upload; a longer file goes in several. S3 takes 10,000 of them: files of up to 156 GiB."""
_BLOCK_BYTES = 1 << 23
"""Read at a time from an object that is read through."""
_OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {"config_kwargs": {"retries": {"mode": "standard", "total_max_attempts": 1}}},
}
_SAME = {"s3a": "s3", "s3n": "s3", "gcs": "gs"}
"""Names that Hadoop and others have for the same stores."""
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "abfs": "adlfs", "az": "adlfs", "hdfs": "pyarrow"}


def is_address(where: str | Place) -> bool:
    """Whether `where` is the address of something in a store."""
    text = str(where)
    return "://" in text and not text.startswith(("file://", "local://"))


def place(where: str | Place) -> Place:
    """The place that `where` names. Raises BadInput for a kind of store that is not installed."""
    text = str(where)
    if not is_address(text):
        return Path(text.removeprefix("file://").removeprefix("local://"))
    scheme, _, rest = text.partition("://")
    scheme = _SAME.get(scheme, scheme)
    try:
        made = UPath(f"{scheme}://{rest}", **_OPTIONS.get(scheme, {}))
        _ = made.fs  # what is not installed is noticed here
    except (ImportError, ValueError) as error:
        package = _PACKAGES.get(scheme)
        what = f"install {package}" if package else "name a folder, or an address that fsspec knows"
        raise BadInput(f"{text} cannot be opened ({error}): {what}") from None
    return cast(Place, made)


def is_remote(where: Place) -> TypeIs[UPath]:
    """Whether a place lies in a store."""
    return isinstance(where, UPath)


def absolute(where: Place) -> str:
    """What other processes may make the place of again."""
    return str(where) if is_remote(where) else str(where.absolute())


# -- writing -----------------------------------------------------------------------------------


def put(where: Place, data: bytes | str) -> None:
    """Write an object, which is seen whole or not at all; it replaces what was there."""
    whole = data.encode() if isinstance(data, str) else data
    if is_remote(where):
        _answer(where, lambda fs, path: fs.pipe_file(path, whole))
        return
    with _staged(where) as staged:
        staged.write_bytes(whole)


def put_file(file: Path, where: Place) -> None:
    """Put what a local file holds, which is seen whole or not at all; a file of the same disk
    is moved."""
    if is_remote(where):
        _answer(where, lambda fs, path: fs.put_file(str(file), path, **_in_parts(fs)))
        return
    try:
        file.replace(where)
    except OSError:  # of another disk
        with _staged(where) as staged:
            shutil.copyfile(file, staged)
        file.unlink(missing_ok=True)


def create(where: Place, data: bytes | str) -> bool:
    """Write an object where there is none yet; whether this call has done so.

    Of several that try at once one succeeds: by If-None-Match in S3, by a link on a disk.
    """
    whole = data.encode() if isinstance(data, str) else data
    if is_remote(where):

        def pipe(fs: Any, path: str) -> bool:
            try:
                fs.pipe_file(path, whole, mode="create")
            except Exception as error:
                if store_errors.is_held(error):
                    return False
                raise
            return True

        # An answer that got lost leaves one's own object behind, and a second try meets it.
        return _answer(where, pipe) or read(where) == whole
    staged = where.with_name(f".{where.name}.{uuid4().hex}")
    try:
        staged.write_bytes(whole)
        os.link(staged, where)
    except FileExistsError:
        return False
    finally:
        staged.unlink(missing_ok=True)
    return True


def remove(where: Place) -> None:
    """Remove an object, if it is there."""
    if is_remote(where):
        _quietly(where, lambda fs, path: fs.rm_file(path))
    else:
        where.unlink(missing_ok=True)


def clear(folder: Place) -> None:
    """Remove a folder and all that is in it."""
    if is_remote(folder):
        _quietly(folder, lambda fs, path: fs.rm(path, recursive=True))
    elif folder.exists():
        shutil.rmtree(folder)


def make_folder(folder: Place) -> None:
    """Make a folder, where there is such a thing: in a store there is none without objects."""
    if not is_remote(folder):
        folder.mkdir(parents=True, exist_ok=True)


@contextmanager
def _staged(where: Path) -> Iterator[Path]:
    staged = where.with_name(f".{where.name}.{os.getpid()}.{uuid4().hex[:8]}")
    try:
        yield staged
        staged.replace(where)
    finally:
        staged.unlink(missing_ok=True)


# -- reading -----------------------------------------------------------------------------------


def read(where: Place) -> bytes:
    """All bytes of an object. Raises FileNotFoundError."""
    if is_remote(where):
        return cast(bytes, _answer(where, lambda fs, path: fs.cat_file(path)))
    return where.read_bytes()


def read_at(where: Place, offset: int, size: int) -> bytes:
    """`size` bytes from `offset` on, or fewer where the object ends. Raises FileNotFoundError."""
    if is_remote(where):
        if not size:
            return b""
        end = offset + size
        return cast(
            bytes, _answer(where, lambda fs, path: fs.cat_file(path, start=offset, end=end))
        )
    with where.open("rb", buffering=0) as file:
        return os.pread(file.fileno(), size, offset)


def opened(where: Place) -> BinaryIO:
    """A file to read from and seek in, in blocks. Raises FileNotFoundError."""
    if is_remote(where):

        def open_it(fs: Any, path: str) -> BinaryIO:
            return cast(
                BinaryIO, fs.open(path, "rb", block_size=_BLOCK_BYTES, cache_type="readahead")
            )

        return cast(BinaryIO, _Patient(_answer(where, open_it), where))
    return where.open("rb")


def size(where: Place) -> int | None:
    """The length of an object; None when there is none."""
    try:
        if is_remote(where):
            return int(_answer(where, lambda fs, path: fs.size(path)))
        return where.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None


def exists(where: Place) -> bool:
    """Whether there is an object, or a folder with any."""
    if is_remote(where):
        return bool(_answer(where, lambda fs, path: fs.exists(path)))
    return where.exists()


def modified(where: Place) -> datetime:
    """When an object was written, by the clock of its store. Raises FileNotFoundError."""
    if is_remote(where):
        told: datetime = _answer(where, lambda fs, path: fs.modified(path))
        return told if told.tzinfo else told.replace(tzinfo=UTC)
    return datetime.fromtimestamp(where.stat().st_mtime, UTC)


def files(folder: Place) -> list[Place]:
    """All files below a folder, in the order of their names; none where there is no folder."""
    if not is_remote(folder):
        return sorted(path for path in folder.rglob("*") if path.is_file())
    return [made for made, _ in sizes(folder)]


def sizes(folder: Place) -> list[tuple[Place, int]]:
    """All files below a folder with their lengths, in the order of their names."""
    if not is_remote(folder):
        return [(path, path.stat().st_size) for path in files(folder)]
    begin = len(folder.path.rstrip("/")) + 1
    try:
        found = _answer(folder, _found)
    except FileNotFoundError:
        return []
    return [
        (folder / name[begin:], int(about["size"]))
        for name, about in sorted(found.items())
        if name[begin:]
    ]


@contextmanager
def local(where: Place, scratch: str | None = None) -> Iterator[Path]:
    """A file of this machine with the bytes of an object, gone afterwards if it was fetched."""
    if not is_remote(where):
        yield where
        return
    with tempfile.TemporaryDirectory(prefix="wit-", dir=scratch) as folder:
        file = Path(folder, where.name)
        _answer(where, lambda fs, path: fs.get_file(path, str(file)))
        yield file


# -- the store's answers -----------------------------------------------------------------------


def _quietly(where: UPath, call: Callable[[Any, str], object]) -> None:
    try:
        _answer(where, call)
    except FileNotFoundError:
        return


def _answer(where: UPath, call: Callable[[Any, str], T]) -> T:
    """What a store says, asked again where it is busy.

    Raises FileNotFoundError, and BadInput for what a person can mend.
    """
    for tried in range(1, _TRIES + 1):
        try:
            return call(where.fs, where.path)
        except Exception as error:
            if store_errors.is_busy(error) and tried < _TRIES:
                time.sleep(_FIRST_WAIT_SECONDS * 2 ** (tried - 1))
                continue
            if isinstance(error, FileNotFoundError) and store_errors.code_of(error) != (
                "NoSuchBucket"
            ):
                raise
            known = store_errors.told(_in_words(error, where), str(where), tried)
            if known is None:
                raise
            raise known from error
    raise AssertionError("unreachable")


def _in_words(error: Exception, where: UPath) -> Exception:
    """An error with the store's code: answers to HEAD have no body, and no room for it."""
    if store_errors.code_of(error) not in ("400", "403"):
        return error
    try:
        where.fs.cat_file(where.path, start=0, end=1)
    except Exception as told:  # noqa: BLE001 -- the store told it already, in fewer words
        if store_errors.code_of(told) is not None:
            return told
    return error


def _in_parts(fs: Any) -> dict[str, int]:
    return {"chunksize": PART_BYTES} if "s3" in fs.protocol else {}


def _found(fs: Any, path: str) -> dict[str, Any]:
    fs.invalidate_cache()  # other processes may have written since it was asked last
    return cast(dict[str, Any], fs.find(path, detail=True))


class _Patient:
    """A remote file whose reads are asked again where the store is busy."""

    def __init__(self, file: BinaryIO, where: UPath) -> None:
        self._file, self._where = file, where

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "_Patient":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, size: int = -1) -> bytes:
        at = self._file.tell()

        def again(_: Any, __: str) -> bytes:
            self._file.seek(at)
            return self._file.read(size)

        return _answer(self._where, again)
