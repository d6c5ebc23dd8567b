"""Storage: one notion of a place, on a disk or in an object store.

A place on a disk is a Path, and any other a UPath of universal-pathlib, read and written through
fsspec. In a store nothing is renamed, since to rename is to copy there: an object is put whole, in
several parts where it is large, and is not seen before its last byte has come. What lies in a
store is named by an address such as s3://bucket/runs/one, from which any process makes the place
again.
"""

import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, cast
from uuid import uuid4

from typing_extensions import TypeIs
from upath import UPath

from pipeline import store_errors
from pipeline.errors import BadInput
from pipeline.store_calls import answer, clear_objects, objects, quietly
from pipeline.store_reader import Ranged

Place = Path | UPath

PART_BYTES = 1 << 24
"""Of an upload; a longer file goes in several. S3 takes 10,000 of them: files of up to 156 GiB."""
_BLOCK_BYTES = 1 << 23
"""Read at a time from an object that is read through."""
_OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {
        "config_kwargs": {"retries": {"mode": "standard", "total_max_attempts": 1}},
        # What was listed once tells nothing of what other processes have written since.
        "use_listings_cache": False,
    },
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
        answer(where, lambda fs, path: fs.pipe_file(path, whole))
        return
    with _staged(where) as staged:
        staged.write_bytes(whole)


def _whole(fs: Any) -> dict[str, int]:
    """One request: else S3's client asks for the length first, and may take a listed one for it."""
    return {"max_concurrency": 1} if "s3" in fs.protocol else {}


def _in_parts(fs: Any) -> dict[str, int]:
    return {"chunksize": PART_BYTES} if "s3" in fs.protocol else {}


def put_file(file: Path, where: Place) -> None:
    """Put what a local file holds, which is seen whole or not at all; a file of the same disk
    is moved."""
    if is_remote(where):
        answer(where, lambda fs, path: fs.put_file(str(file), path, **_in_parts(fs)))
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
        try:
            return answer(where, pipe) or read(where) == whole
        except FileNotFoundError:  # gone again in the meantime
            return False
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
        quietly(where, lambda fs, path: fs.rm_file(path))
    else:
        where.unlink(missing_ok=True)


def clear(folder: Place) -> None:
    """Remove a folder and all that is in it."""
    if is_remote(folder):
        clear_objects(folder)
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
        return cast(bytes, answer(where, lambda fs, path: fs.cat_file(path, **_whole(fs))))
    return where.read_bytes()


def read_at(where: Place, offset: int, size: int) -> bytes:
    """`size` bytes from `offset` on, or fewer where the object ends. Raises FileNotFoundError."""
    if is_remote(where):
        if not size:
            return b""
        end = offset + size
        return cast(bytes, answer(where, lambda fs, path: fs.cat_file(path, start=offset, end=end)))
    with where.open("rb", buffering=0) as file:
        return os.pread(file.fileno(), size, offset)


def opened(where: Place, block_bytes: int | None = None) -> BinaryIO:
    """A file to read from and seek in; of an object so much is asked for at a time, for 0 what each
    read wants. Raises FileNotFoundError."""
    if not is_remote(where):
        return where.open("rb")
    raw = Ranged(where)
    if block_bytes == 0:
        return cast(BinaryIO, raw)
    return io.BufferedReader(raw, block_bytes or _BLOCK_BYTES)


def size(where: Place) -> int | None:
    """The length of an object; None when there is none."""
    try:
        if is_remote(where):
            return int(answer(where, lambda fs, path: fs.size(path)))
        return where.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None


def exists(where: Place) -> bool:
    """Whether there is an object, or a folder with any."""
    if is_remote(where):
        return bool(answer(where, lambda fs, path: fs.exists(path)))
    return where.exists()


def modified(where: Place) -> datetime:
    """When an object was written, by the clock of its store. Raises FileNotFoundError."""
    if is_remote(where):
        told: datetime = answer(where, lambda fs, path: fs.modified(path))
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
        return list(_lengths(files(folder)))
    begin = len(folder.path.rstrip("/")) + 1
    return [
        (folder / name[begin:], int(about["size"]))
        for name, about in sorted(objects(folder).items())
        if name[begin:]
    ]


def _lengths(paths: Iterable[Place]) -> Iterator[tuple[Place, int]]:
    for path in paths:
        with suppress(FileNotFoundError):  # what an attempt staged was put, or is gone
            yield path, path.stat().st_size


def below(folder: Place, where: Place) -> str:
    """The name of a place by that of a folder that holds it, as `a/b.tar`."""
    if not is_remote(where):
        return where.relative_to(str(folder)).as_posix()
    return str(where)[len(str(folder).rstrip("/")) + 1 :]


def is_hidden(folder: Place, where: Place) -> bool:
    """Whether a place in a folder, or a folder between them, has a name that Spark passes over."""
    return any(step.startswith(("_", ".")) for step in below(folder, where).split("/"))


@contextmanager
def local(where: Place, scratch: str | None = None) -> Iterator[Path]:
    """A file of this machine with the bytes of an object, gone afterwards if it was fetched."""
    if not is_remote(where):
        yield where
        return
    with tempfile.TemporaryDirectory(prefix="wit-", dir=scratch) as folder:
        file = Path(folder, where.name)
        fetch(where, file)
        yield file


def fetch(where: Place, file: Path) -> bool:
    """Write what an object holds into a local file; False where there is none."""
    try:
        with opened(where) as source, file.open("wb") as target:
            shutil.copyfileobj(source, target, _BLOCK_BYTES)
    except FileNotFoundError:
        file.unlink(missing_ok=True)
        return False
    return True


def stamp(where: Place) -> str | None:
    """What the bytes of an object are known by without reading them: its size, with the store's
    own mark of them or the time they came. None when there is none."""
    if not is_remote(where):
        try:
            stat = where.stat()
        except OSError:
            return None
        return f"{stat.st_size} bytes, {stat.st_mtime_ns} ns"

    try:
        told: dict[str, Any] = answer(where, lambda fs, path: fs.info(path))
    except FileNotFoundError:
        return None
    if told.get("type") == "directory":
        inner = sorted(objects(where).items())
        marks = [f"{name}: {_mark(each)}" for name, each in inner]
        return f"{len(marks)} objects, {hashlib.sha256(chr(10).join(marks).encode()).hexdigest()}"
    return _mark(told)


def _mark(told: dict[str, Any]) -> str:
    """Of an object, as its store tells of it."""
    names = ("ETag", "etag", "content_hash", "md5Hash", "LastModified", "last_modified", "mtime")
    mark = next((told[name] for name in names if told.get(name)), "")
    return f"{told.get('size')} bytes, {str(mark).strip(chr(34))}"
