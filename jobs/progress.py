"""Progress: a bar with rate and time left on a terminal, plain lines otherwise."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.progress import Task as BarTask
from rich.text import Text

_INTERVAL_SECONDS = 10.0


class _Rate(TextColumn):
    """Units per second, once there is something to divide."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: BarTask) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.1f} {task.fields['unit']}/s" if speed else "")


class Progress:
    """Where a run tells how far it is."""

    def __init__(self) -> None:
        self.console = Console(file=sys.stderr, highlight=False, soft_wrap=True)

    def say(self, line: str) -> None:
        """One line."""
        self.console.print(line, markup=False)

    @contextmanager
    def note(self, what: str) -> Iterator[None]:
        """A short step without a bar."""
        began = time.monotonic()
        yield
        self.say(f"  {what}: {time.monotonic() - began:.1f} s")

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """A stage, announced."""
        self.say(f"{name}")
        yield

    @contextmanager
    def bar(self, what: str, total: int, unit: str) -> Iterator["Meter"]:
        """A bar of `total` units; the meter inside is advanced by the caller."""
        meter = Meter(self, what, total, unit)
        if not self.console.is_terminal:
            yield meter
            meter.close()
            return
        with _bars(self.console) as bars:
            meter.attach(bars)
            yield meter
        meter.close()

    @contextmanager
    def watch(self, spark: Any, what: str) -> Iterator[None]:
        """A bar over the tasks of the Spark jobs that run inside."""
        done = threading.Event()
        with self.bar(what, 0, "tasks") as meter:
            watcher = threading.Thread(
                target=_follow_tasks, args=(spark.sparkContext, meter, done), daemon=True
            )
            watcher.start()
            try:
                yield
            finally:
                done.set()
                watcher.join(timeout=5)


class Meter:
    """How far one step is."""

    def __init__(self, progress: Progress, what: str, total: int, unit: str) -> None:
        self._progress, self._what, self._unit = progress, what, unit
        self._total, self._count = total, 0
        self._began = self._last = time.monotonic()
        self._bars: Bars | None = None

    def attach(self, bars: Bars) -> None:
        self._bars = bars
        self._task = bars.add_task(f"  {self._what}", total=self._total or None, unit=self._unit)

    def advance(self, count: int = 1) -> None:
        self.set(self._count + count, self._total)

    def set(self, count: int, total: int) -> None:
        """`count` of `total` units are done."""
        self._count, self._total = count, total
        if self._bars is not None:
            self._bars.update(self._task, completed=count, total=total or None)
        elif time.monotonic() - self._last >= _INTERVAL_SECONDS:
            self._last = time.monotonic()
            self._progress.say(f"  {self._what}: {self._line()}")

    def close(self) -> None:
        seconds = time.monotonic() - self._began
        self._progress.say(f"  {self._what}: done in {seconds:.1f} s")

    def _line(self) -> str:
        rate = self._count / max(time.monotonic() - self._began, 1e-9)
        left = (self._total - self._count) / rate if rate else float("inf")
        time_left = f", about {left:.0f} s left" if left < float("inf") and self._total else ""
        return f"{self._count:,} of {self._total:,} {self._unit}, {rate:,.1f}/s{time_left}"


def _bars(console: Console) -> Bars:
    return Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def _follow_tasks(context: Any, meter: Meter, done: threading.Event) -> None:
    tracker = context.statusTracker()
    seen: dict[int, tuple[int, int]] = {}
    while not done.wait(0.5):
        for stage_id in tracker.getActiveStageIds():
            info = tracker.getStageInfo(stage_id)
            if info is not None:
                seen[stage_id] = (info.numCompletedTasks, info.numTasks)
        if seen:
            meter.set(sum(d for d, _ in seen.values()), sum(n for _, n in seen.values()))
