"""Metrics: what the stages of a run do and did, as JSON lines in the run's folder.

writes  walk.jsonl

A line says when, by whom and in which stage. `metrics.jsonl`, beside the checkpoints, is the
training's own. To an object nothing can be appended: the lines of a run in a store are kept on this
machine while a stage is made, and brought there whole.
"""

from __future__ import annotations

import os
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jobs.jsonlines import append
from jobs.ledger import Ledger
from jobs.spark_ui import Names
from pipeline import storage
from pipeline.errors import WitError
from pipeline.storage import Place

WALK = "walk.jsonl"
EVERY_SECONDS = 10.0
BRING_SECONDS = 60.0
_ALSO_BROUGHT = ("begin", "table", "failed", "end")


class Metrics:
    """Writes the lines of one process that works on the run at `root`."""

    def __init__(self, root: Place, say: Callable[[str], None]) -> None:
        self.id = secrets.token_hex(6)
        """Of this process's work on the run: every line has it."""
        self.names = Names(self.id)
        self.every_seconds = EVERY_SECONDS
        self._root, self._say, self._is_broken = root, say, False
        self._verb, self._since, self._began = "", "", 0.0
        self._last_table = 0.0
        self._taken_up: set[str] = set()
        self._bringing, self._brought = threading.Lock(), 0.0

    @contextmanager
    def stage(self, verb: str) -> Iterator[None]:
        """A line as the stage `verb` begins, and one as it ends, with Spark's own sums."""
        with kept(self._root) as self._file, self._lines(verb):
            yield

    @contextmanager
    def _lines(self, verb: str) -> Iterator[None]:
        self._verb, self._since, self._taken_up = verb, _now(), set()
        self._began = self._last_table = time.monotonic()
        cpu = time.process_time()
        self._tell("begin")
        try:
            with self.names.stage(verb):
                yield
                told = {"driver_cpu_seconds": time.process_time() - cpu, **self.names.sums()}
        except BaseException as error:
            self._tell("failed", seconds=self._seconds(), error=_brief(error))
            raise
        else:
            self._tell("end", seconds=self._seconds(), **told)
        finally:
            self._verb = ""

    def going(self, step: str, **facts: Any) -> None:
        """A line of how far a step of the stage is."""
        if self._verb:
            self._tell("going", step=step, seconds=self._seconds(), **facts)

    def spark(self, **facts: Any) -> None:
        """A line of the Spark that the run has started."""
        if self._verb:
            self._tell("spark", **facts)

    def taken_up(self, table: str) -> None:
        """Of `table` a part was there already: its rates would be none."""
        self._taken_up.add(table)

    def table(self, table: str, ledger: Ledger, folder: Place) -> None:
        """A line of a finished table. Its seconds are those since the table before it."""
        if not self._verb:
            return
        now = time.monotonic()
        seconds, self._last_table = max(now - self._last_table, 1e-3), now
        try:
            size = size_of(folder)
        except (OSError, WitError):  # it is only looked at
            size = None
        is_taken_up = table in self._taken_up
        self._tell(
            "table",
            table=table,
            rows_in=ledger.rows_in,
            rows=ledger.rows_out,
            dropped=dict(sorted(ledger.dropped.items())),
            bytes=size,
            seconds=seconds,
            taken_up=is_taken_up,
            rows_in_per_second=None if is_taken_up else ledger.rows_in / seconds,
            bytes_per_second=None if is_taken_up or size is None else size / seconds,
        )

    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def _tell(self, event: str, **facts: Any) -> None:
        who = {"host": socket.gethostname(), "pid": os.getpid(), "run": self.id}
        line = {"time": _now(), "event": event, "verb": self._verb, "since": self._since, **who}
        try:
            append(self._file, line | {key: _rounded(value) for key, value in facts.items()})
            if storage.is_remote(self._root):
                self._bring(is_due=event in _ALSO_BROUGHT)
        except (OSError, WitError) as error:
            # What is only looked at must not end a walk of days; a full disk ends it elsewhere.
            if not self._is_broken:
                told = error.strerror if isinstance(error, OSError) else error
                self._say(f"{self._root / WALK} cannot be written ({told}): it has gaps")
            self._is_broken = True

    def _bring(self, *, is_due: bool) -> None:
        with self._bringing:
            if is_due or time.monotonic() - self._brought >= BRING_SECONDS:
                storage.put(self._root / WALK, self._file.read_bytes())
                self._brought = time.monotonic()


@contextmanager
def kept(root: Place) -> Iterator[Path]:
    """The file of this machine that the lines of a run are appended to.

    In a run on disk it is the run's own; else it begins with what the run has already.
    """
    if not storage.is_remote(root):
        root.mkdir(parents=True, exist_ok=True)
        yield root / WALK
        return
    with tempfile.TemporaryDirectory(prefix="wit-") as folder:
        file = Path(folder, WALK)
        storage.fetch(root / WALK, file)
        yield file


def size_of(folder: Place) -> int:
    """The bytes of a table: of all files that are not hidden."""
    files = storage.sizes(folder)
    return sum(size for file, size in files if not storage.is_hidden(folder, file))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _brief(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    told = str(error).strip().partition("\n")[0][:300]
    return f"{type(error).__name__}: {told}" if told else type(error).__name__


def _rounded(value: Any) -> Any:
    return round(value, 3) if isinstance(value, float) else value
