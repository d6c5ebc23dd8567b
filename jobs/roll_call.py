"""Roll call: what a worker tells of itself, asked by the muster.

It travels by value to workers that may have none of our packages: each function imports what
Python itself brings, and nothing of ours.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

ROOMS = ("pipeline", "queries", "jobs")


def code() -> tuple[dict[str, bytes], str]:
    """The files of our packages as they would be imported here, and where they lie; neither where
    there are none."""
    import importlib.util
    import zipfile
    from pathlib import Path

    found: dict[str, bytes] = {}
    place = ""
    for room in ROOMS:
        spec = importlib.util.find_spec(room)
        if spec is None or spec.origin is None:
            return {}, ""
        archive = getattr(spec.loader, "archive", None)
        if archive is not None:
            place = place or archive
            with zipfile.ZipFile(archive) as packed:
                names = [name for name in packed.namelist() if name.startswith(f"{room}/")]
                found.update((name, packed.read(name)) for name in names if name[-1] != "/")
        else:
            root = Path(spec.origin).parent.parent
            place = place or str(root)
            files = [file for file in (root / room).rglob("*") if file.is_file()]
            found.update((file.relative_to(root).as_posix(), file.read_bytes()) for file in files)
    return {name: found[name] for name in found if "__pycache__" not in name}, place


def digest_of(files: dict[str, bytes]) -> str:
    """What files are known by, whatever they are packed in."""
    import hashlib

    whole = hashlib.sha256()
    for name, content in sorted(files.items()):
        whole.update(f"{name} {len(content)}\n".encode())
        whole.update(content)
    return whole.hexdigest() if files else ""


def versions(names: tuple[str, ...]) -> dict[str, str | None]:
    """The version of each distribution; None where it is not installed."""
    from importlib import metadata

    told: dict[str, str | None] = {}
    for name in names:
        try:
            told[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            told[name] = None
    return told


def in_folder(folder: str, note: str) -> dict[str, str]:
    """What a worker sees of the run's folder: the note that the driver left, and what is wrong."""
    import uuid
    from pathlib import Path

    told = {}
    try:
        told["note"] = Path(note).read_text(encoding="utf-8")
    except OSError as error:
        told["unread"] = error.strerror or str(error)
    mine = Path(folder, f".muster-{uuid.uuid4().hex}")
    try:
        mine.write_text("here", encoding="utf-8")
        mine.unlink()
    except OSError as error:
        told["unwritten"] = error.strerror or str(error)
    return told


def scratch() -> tuple[str, int]:
    """The scratch folder with the least room, and its free bytes."""
    import os
    import shutil
    import tempfile

    folders = [name for name in os.environ.get("SPARK_LOCAL_DIRS", "").split(",") if name]
    free = [(shutil.disk_usage(name).free, name) for name in folders or [tempfile.gettempdir()]]
    least, name = min(free)
    return name, least


def answer(names: tuple[str, ...], folder: str | None, note: str) -> dict[str, Any]:
    """All that a worker tells of itself."""
    import os
    import socket
    import sys
    import time

    files, place = code()
    room, free = scratch()
    return {
        "host": socket.gethostname(),
        # Of each executor another, on one machine too.
        "executor": os.environ.get("SPARK_LOCAL_DIRS") or str(os.getppid()),
        "python": ".".join(str(number) for number in sys.version_info[:3]),
        "path": sys.executable,
        "versions": versions(names),
        "code": digest_of(files),
        "code_place": place,
        "folder": {} if folder is None else in_folder(folder, note),
        "scratch": room,
        "free": free,
        "clock": time.time(),
    }


def teller(
    names: tuple[str, ...], folder: str | None, note: str, pause: float
) -> Callable[[Iterable[int]], Iterator[dict[str, Any]]]:
    """What each task of the muster does."""

    def tell(_: Iterable[int]) -> Iterator[dict[str, Any]]:
        import time

        told = answer(names, folder, note)
        time.sleep(pause)  # so that other executors get a task as well
        yield told

    return tell
