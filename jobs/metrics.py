"""Metrics: what the stages of a run do and did, as JSON lines in the run's folder.

writes  walk.jsonl

A line says when, by whom and in which stage. `metrics.jsonl`, beside the checkpoints, is the
training's own.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jobs.jsonlines import append
from jobs.ledger import Ledger
from jobs.spark_ui import Names

WALK = "walk.jsonl"
EVERY_SECONDS = 10.0


class Metrics:
    """Writes the lines of one process that works on the run at `root`."""

    def __init__(self, root: Path, say: Callable[[str], None]) -> None:
        self.id = secrets.token_hex(6)
        """Of this process's work on the run: every line has it."""
        self.names = Names(self.id)
        self.every_seconds = EVERY_SECONDS
        self._root, self._say, self._is_broken = root, say, False
        self._verb, self._since, self._began = "", "", 0.0
        self._last_table = 0.0
        self._taken_up: set[str] = set()

    @contextmanager
    def stage(self, verb: str) -> Iterator[None]:
        """A line as the stage `verb` begins, and one as it ends, with Spark's own sums."""
        file, bring = kept(self._root)
        self._file = file
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
            bring()
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

    def table(self, table: str, ledger: Ledger, folder: Path) -> None:
        """A line of a finished table. Its seconds are those since the table before it."""
        if not self._verb:
            return
        now = time.monotonic()
        seconds, self._last_table = max(now - self._last_table, 1e-3), now
        size = size_of(folder)
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
            bytes_per_second=None if is_taken_up else size / seconds,
        )

    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def _tell(self, event: str, **facts: Any) -> None:
        who = {"host": socket.gethostname(), "pid": os.getpid(), "run": self.id}
        line = {"time": _now(), "event": event, "verb": self._verb, "since": self._since, **who}
        try:
            append(self._file, line | {key: _rounded(value) for key, value in facts.items()})
        except OSError as error:
            # What is only looked at must not end a walk of days; a full disk ends it elsewhere.
            if not self._is_broken:
                self._say(f"{self._file} cannot be written ({error.strerror}): it has gaps")
            self._is_broken = True


def kept(root: Path) -> tuple[Path, Callable[[], None]]:
    """The file on this machine that lines are appended to, and what brings it to the run.

    In a run on disk it is the run's own.
    """
    root.mkdir(parents=True, exist_ok=True)
    return root / WALK, lambda: None


def size_of(folder: Path) -> int:
    """The bytes of a table: of all files that are not hidden."""
    return sum(
        file.stat().st_size
        for file in folder.rglob("*")
        if not any(part.startswith(("_", ".")) for part in file.relative_to(folder).parts)
        and file.is_file()
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _brief(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    told = str(error).strip().partition("\n")[0][:300]
    return f"{type(error).__name__}: {told}" if told else type(error).__name__


def _rounded(value: Any) -> Any:
    return round(value, 3) if isinstance(value, float) else value
