"""The form of a benchmark: figures side by side, as a table and as build/benchmarks/NAME.json."""

import contextlib
import json
import platform
import resource
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent.parent / "build" / "benchmarks"
_LOOK_SECONDS = 0.25


@dataclass(frozen=True)
class Figure:
    """One line: a rate or a ratio of ours, and of the peer where there is one."""

    figure: str
    ours: float
    unit: str
    peer: float | None = None
    peer_name: str | None = None
    """With its version."""
    goal: float | None = None
    """The least ratio of ours to the peer's; without a peer, the least figure of ours."""
    at_most: bool = False
    """Whether the goal is the greatest and not the least."""

    @property
    def ratio(self) -> float | None:
        return self.ours / self.peer if self.peer else None

    @property
    def met(self) -> bool | None:
        if self.goal is None:
            return None
        reached = self.ours if self.ratio is None else self.ratio
        return reached <= self.goal if self.at_most else reached >= self.goal


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU seconds of this process and its ended children while `work` runs."""

    def spent() -> float:
        usages = [
            resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        ]
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)

    before = spent()
    work()
    return spent() - before


def wall_seconds(work: Callable[[], object]) -> float:
    """Seconds on the clock, for work that waits."""
    before = time.perf_counter()
    work()
    return time.perf_counter() - before


def spark_seconds(work: Callable[[], object]) -> float:
    """CPU seconds of this process, the JVM and its Python workers while `work` runs.

    Workers end when they have been idle for a minute, and pyspark's daemon does not wait for them:
    what they took is told by no parent, only by themselves until then.
    """
    own = psutil.Process()

    def look(seconds: dict[psutil.Process, float]) -> None:
        for process in (own, *own.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                seconds[process] = sum(process.cpu_times()[:2])

    before, seen = dict[psutil.Process, float](), dict[psutil.Process, float]()
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(_LOOK_SECONDS):
            look(seen)

    look(before)
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        is_over.set()
        watcher.join()
    look(seen)
    return sum(seconds - before.get(process, 0.0) for process, seconds in seen.items())


def here() -> str:
    """The day and the machine."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    processor = names[0] if names else platform.processor() or platform.machine()
    return f"{datetime.now(UTC).date()}, {processor}, {psutil.cpu_count()} cores"


def seconds_told(work: Callable[[], object]) -> float:
    """The seconds that `work` itself tells."""
    return float(work())  # type: ignore[arg-type]


def high_water(process: int) -> int:
    """The most bytes of memory that a process has had, by its id. Linux alone tells it."""
    # The usage that a process reports of itself may be that of the parent it was forked from.
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def alternate(
    contenders: dict[str, Callable[[], object]],
    *,
    rounds: int = 5,
    measure: Callable[[Callable[[], object]], float] = cpu_seconds,
) -> dict[str, float]:
    """The median seconds of each contender, run in turn so that a drift of the machine hits all."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, work in contenders.items():
            seconds[name].append(measure(work))
    return {name: statistics.median(spent) for name, spent in seconds.items()}


def _told(value: float) -> str:
    """Shares near one need their last digits."""
    return f"{value:.5f}" if value < 1 else f"{value:,.1f}"


def publish(name: str, figures: list[Figure]) -> None:
    """Print the table and write the JSON."""
    table = Table(title=f"bench-{name}", title_justify="left")
    for column in ("figure", "ours", "peer", "unit", "ratio", "goal", "met"):
        table.add_column(column, justify="left" if column in ("figure", "unit") else "right")
    for figure in figures:
        peer = "" if figure.peer is None else f"{_told(figure.peer)} ({figure.peer_name})"
        table.add_row(
            figure.figure,
            _told(figure.ours),
            peer,
            figure.unit,
            "" if figure.ratio is None else f"{figure.ratio:.2f}x",
            "" if figure.goal is None else f"{'<= ' * figure.at_most}{figure.goal:g}",
            {None: "", True: "yes", False: "NO"}[figure.met],
        )
    Console(highlight=False, width=140).print(table)
    keep(name, figures)


def keep(name: str, figures: list[Figure]) -> None:
    """Write the JSON."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    told = [{**asdict(f), "ratio": f.ratio, "met": f.met} for f in figures]
    (RESULTS / f"{name}.json").write_text(json.dumps(told, indent=1) + "\n")
