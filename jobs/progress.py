"""Progress: a bar with rate and time left on a terminal, plain lines otherwise."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

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

from jobs.spark_ui import executors

if TYPE_CHECKING:
    from jobs.metrics import Metrics

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
        self.metrics: Metrics | None = None
        """Where a run writes down what it tells."""

    def say(self, line: str) -> None:
        """One line."""
        self.console.print(line, markup=False)

    @contextmanager
    def note(self, what: str) -> Iterator[None]:
        """A short step without a bar."""
        began = time.monotonic()
        if self.metrics is not None:
            self.metrics.going(what)
        yield
        self.say(f"  {what}: {time.monotonic() - began:.1f} s")

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """A stage, announced."""
        self.say(f"{name}")
        with self.metrics.stage(name) if self.metrics is not None else nullcontext():
            yield

    def started(self, spark: Any) -> None:
        """Spark, announced where it can be looked at."""
        if self.metrics is not None:
            context = spark.sparkContext
            self.metrics.names.apply()
            self.metrics.spark(
                application=context.applicationId,
                master=context.master,
                ui=context.uiWebUrl,
                event_log=context.getConf().get("spark.eventLog.dir")
                if context.getConf().get("spark.eventLog.enabled") == "true"
                else None,
            )
            if context.uiWebUrl:
                self.say(f"  Spark's pages: {context.uiWebUrl}")

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
        names = nullcontext() if self.metrics is None else self.metrics.names.step(what)
        with names, self.bar(what, 0, "tasks") as meter:
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
        self._facts: dict[str, int] = {}
        self._before = 0
        self._told = self._began
        self._tell()

    def attach(self, bars: Bars) -> None:
        self._bars = bars
        self._task = bars.add_task(f"  {self._what}", total=self._total or None, unit=self._unit)

    def advance(self, count: int = 1) -> None:
        """One more unit is done; several at once were done before."""
        self._before += count if count > 1 else 0
        self.set(self._count + count, self._total)

    def set(self, count: int, total: int, **facts: int) -> None:
        """`count` of `total` units are done; `facts` are written down beside it."""
        self._count, self._total, self._facts = count, total, facts
        metrics = self._progress.metrics
        if metrics is not None and time.monotonic() - self._told >= metrics.every_seconds:
            self._tell()
        if self._bars is not None:
            self._bars.update(self._task, completed=count, total=total or None)
        elif time.monotonic() - self._last >= _INTERVAL_SECONDS:
            self._last = time.monotonic()
            self._progress.say(f"  {self._what}: {self._line()}")

    def close(self) -> None:
        self._tell()
        seconds = time.monotonic() - self._began
        self._progress.say(f"  {self._what}: done in {seconds:.1f} s")

    def _line(self) -> str:
        rate, left = self._rate()
        time_left = f", about {left:.0f} s left" if left is not None else ""
        return f"{self._count:,} of {self._total:,} {self._unit}, {rate:,.1f}/s{time_left}"

    def _rate(self) -> tuple[float, float | None]:
        """Units per second so far, and the seconds left at that rate."""
        rate = (self._count - self._before) / max(time.monotonic() - self._began, 1e-9)
        return rate, (self._total - self._count) / rate if rate and self._total else None

    def _tell(self) -> None:
        """Write down how far it is."""
        self._told = time.monotonic()
        if self._progress.metrics is not None:
            rate, left = self._rate()
            self._progress.metrics.going(
                self._what,
                unit=self._unit,
                done=self._count,
                total=self._total,
                per_second=rate,
                seconds_left=left,
                **self._facts,
            )


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
    """Look at the tasks until `done`, and once more: the last of them end between two looks."""
    from py4j.protocol import Py4JError

    tracker = context.statusTracker()
    seen: dict[int, Any] = {}
    is_over = False
    while not is_over:
        is_over = done.wait(0.5)
        try:
            unfinished = {i for i, info in seen.items() if info.numCompletedTasks < info.numTasks}
            for stage_id in unfinished.union(tracker.getActiveStageIds()):
                info = tracker.getStageInfo(stage_id)
                if info is not None:
                    seen[stage_id] = info
            count = executors(context)
        except (Py4JError, OSError):
            return  # the JVM is gone; the step says so
        if seen:
            meter.set(
                sum(info.numCompletedTasks for info in seen.values()),
                sum(info.numTasks for info in seen.values()),
                failed=sum(info.numFailedTasks for info in seen.values()),
                executors=count,
            )
