"""Fetching: files of a folder that lies elsewhere, read through fsspec.

What may heal is tried again, for a bounded time; what is damaged, missing or denied is told apart.
No wait is without an end: the work is done in threads that nobody has to wait for.
"""

import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from fsspec.core import url_to_fs

from pipeline.errors import BadInput

T = TypeVar("T")

_BLOCK = 1 << 23
"""Bytes read at a time; fsspec asks for twice as many in one request."""
_STREAM = 0
"""Asks fsspec's http for the whole file at once."""
_LOOK_SECONDS = 0.5
"""Between two looks at whether a thread that says nothing is still to be waited for."""
_DAMAGED_TRIES = 3
_DENIED = (401, 403)
_GONE = (404, 410)
_MAY_HEAL = (408, 425, 429)
_LOGIN = re.compile(r"(?<=://)[^/@\s]*@")


class Unavailable(Exception):
    """A shard cannot be had; the run can go on without it."""

    def __init__(self, name: str, reason: str, detail: str = "") -> None:
        super().__init__(name, reason, detail)
        self.name, self.reason, self.detail = name, reason, detail
        """`reason` is one of: missing, other length, other checksum, cannot be fetched."""

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}" + (f" ({self.detail})" if self.detail else "")


class GivenUp(Exception):
    """The store was closed, or a shard fetched ahead has no room: nobody's mistake."""


class Patience(NamedTuple):
    """Seconds."""

    first: float = 0.5
    """Before the second try; each later pause is twice as long,"""
    longest: float = 8.0
    """up to this,"""
    total: float = 60.0
    """until so many have gone by since the first try."""
    silence: float = 300.0
    """Without a byte, after which a fetch is not waited for any longer."""


class Target(Protocol):
    """Where fetched bytes go."""

    def restart(self, size: int | None) -> None:
        """Forget what was written; `size` bytes will come, where that is known."""

    def write(self, block: bytes) -> None: ...


class Task(Generic[T]):
    """Work in a thread of its own, which dies with the process and need not be waited for."""

    def __init__(self, work: Callable[["Task[T]"], T], name: str) -> None:
        self.wanted_now = False
        """Somebody waits: it is worth waiting for room."""
        self._work, self._moved, self._done = work, time.monotonic(), threading.Event()
        self._result: list[T] = []
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> "Task[T]":
        self._thread.start()
        return self

    def heard(self) -> None:
        """The work goes on."""
        self._moved = time.monotonic()

    def result(self, name: str, silence: float, closing: threading.Event) -> T:
        """What the work gives; Unavailable when it was not heard of for so many seconds."""
        while not self._done.wait(min(_LOOK_SECONDS, silence)):
            if closing.is_set():
                raise GivenUp
            if time.monotonic() - self._moved > silence:
                raise Unavailable(name, "cannot be fetched", f"nothing came for {silence:.0f} s")
        if self._error is not None:
            raise self._error
        return self._result[0]

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)

    def _run(self) -> None:
        try:
            self._result.append(self._work(self))
        except Exception as error:  # noqa: BLE001 - whoever waits for the result meets it again
            self._error = error
        finally:
            self._done.set()


class Folder:
    """A folder that fsspec reads; safe to use from several threads."""

    def __init__(self, where: str, patience: Patience, closing: threading.Event) -> None:
        self.shown = without_login(where).rstrip("/")
        self._block = _BLOCK
        self._patience, self._closing = patience, closing
        try:
            # An instance of another process or thread may hold a connection that is not ours.
            self._files, self._root = url_to_fs(where, skip_instance_cache=True)
        except ImportError as error:
            raise BadInput(f"{self.shown} cannot be opened: {error} (pip install)") from None
        except (ValueError, OSError) as error:
            raise BadInput(f"{self.shown} cannot be opened: {without_login(str(error))}") from None

    def names(self) -> list[str]:
        """Of the files that lie directly in it."""

        def listed() -> list[str]:
            self._files.invalidate_cache()
            found: Iterable[dict[str, Any]] = self._files.ls(self._root, detail=True)
            files = [each["name"] for each in found if each.get("type") != "directory"]
            return [file.rstrip("/").rpartition("/")[2] for file in files]

        return self._tried(self.shown, listed)

    def size(self, name: str) -> int | None:
        """The length of `name`; None when it is not there or the server does not tell."""

        def told() -> int | None:
            self._files.invalidate_cache()
            size = self._files.info(self._path(name)).get("size")
            return None if size is None else int(size)

        return self._if_there(name, told)

    def small(self, name: str, most: int) -> bytes | None:
        """The bytes of `name`, None when it is not there."""

        def read() -> bytes:
            self._files.invalidate_cache()
            with self._open(name) as file:
                blocks, left = [], most + 1
                while left and (block := file.read(min(_BLOCK, left))):
                    blocks.append(block)
                    left -= len(block)
            if not left:
                raise Unavailable(name, "cannot be fetched", f"longer than {most:,} bytes")
            return b"".join(blocks)

        return self._if_there(name, read)

    def copy(
        self, name: str, size: int | None, sha256: str | None, target: Target, began: float
    ) -> None:
        """Write the bytes of `name` to `target`; Unavailable when they are not what they must be.

        Tries are counted from `began`: who has waited for another's tries makes one more.
        """

        def copied() -> None:
            self._files.invalidate_cache()
            digest, length = hashlib.sha256(), 0
            if size is not None:
                target.restart(size)  # before a connection is open: there may be no room yet
            with self._open(name) as file:
                if size is None:
                    told = getattr(file, "size", None)
                    target.restart(told if isinstance(told, int) else None)
                while True:
                    most = _BLOCK if size is None else min(_BLOCK, size - length + 1)
                    block = file.read(most)
                    if self._closing.is_set():
                        raise GivenUp
                    length += len(block)
                    if size is not None and length > size:
                        raise _Damaged("other length", f"more than {size:,} bytes")
                    if not block:
                        break
                    digest.update(block)
                    target.write(block)
            if size is not None and length != size:
                raise _Damaged("other length", f"{length:,} bytes, not {size:,}")
            if sha256 is not None and digest.hexdigest() != sha256:
                raise _Damaged("other checksum", f"{digest.hexdigest()}, not {sha256}")

        self._tried(name, copied, began)

    def _open(self, name: str) -> Any:
        return self._files.open(self._path(name), "rb", block_size=self._block)

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _if_there(self, name: str, attempt: Callable[[], T]) -> T | None:
        try:
            return self._tried(name, attempt)
        except Unavailable as error:
            if error.reason == "missing":
                return None
            raise
        except _Denied:
            # S3 answers 403 and not 404 for a missing key when the folder must not be listed.
            return None

    def _tried(self, name: str, attempt: Callable[[], T], began: float | None = None) -> T:
        patience = self._patience
        until = (time.monotonic() if began is None else began) + patience.total
        pause, damaged = patience.first, 0
        while True:
            try:
                return attempt()
            except (Unavailable, BadInput, GivenUp):
                raise
            except _Damaged as error:
                damaged += 1
                last = Unavailable(name, error.reason, error.detail)
                is_final = damaged >= _DAMAGED_TRIES
            except ValueError as error:
                if self._block:
                    # So fsspec tells of a server that cannot answer with a part of a file.
                    self._block = _STREAM
                    continue
                last, is_final = self._judged(name, error)
            except Exception as error:  # noqa: BLE001 - each of fsspec's systems has its own
                last, is_final = self._judged(name, error)
            if is_final or time.monotonic() + pause > until:
                raise last from None
            if self._closing.wait(pause):
                raise GivenUp
            pause = min(2 * pause, patience.longest)

    def _judged(self, name: str, error: Exception) -> tuple[Unavailable, bool]:
        """What `error` means, and whether it is of no use to try again."""
        cause = error.__cause__
        if isinstance(error, FileNotFoundError) and isinstance(cause, Exception) and _passes(cause):
            # fsspec's http tells of every failure, a busy server's too, as a missing file.
            error = cause
        status = _status(error)
        is_missing = isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError)
        if is_missing or status in _GONE:
            return Unavailable(name, "missing"), True
        if isinstance(error, PermissionError) or status in _DENIED:
            raise _Denied(
                f"{self.shown}/{name} may not be read: give this machine the credentials, "
                "or correct the address"
            ) from None
        detail = without_login(f"{type(error).__name__}: {error}")
        is_final = status is not None and 400 <= status < 500 and status not in _MAY_HEAL
        return Unavailable(name, "cannot be fetched", detail), is_final


class _Denied(BadInput):
    pass


class _Damaged(Exception):
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


def without_login(text: str) -> str:
    """`text` without the names and passwords in its addresses."""
    return _LOGIN.sub("", text)


def _status(error: Exception) -> int | None:
    """The HTTP status that an error of aiohttp, gcsfs or urllib carries."""
    for name in ("status", "code"):
        found = getattr(error, name, None)
        if isinstance(found, int):
            return found
    return None


def _passes(error: Exception) -> bool:
    status = _status(error)
    if status is None:
        return isinstance(error, OSError) and not isinstance(error, FileNotFoundError)
    return status not in _GONE
