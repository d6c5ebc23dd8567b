"""What the scale benchmark tells: figures, tables in Markdown, and a curve."""

import statistics
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from benchmarks import form
from benchmarks.form import Figure
from jobs.plan_rates import STAGES, dump
from jobs.plan_rates import Figure as Rate

_FLAT = 1.15
"""How many times as much a row may cost among the most as among the fewest."""
_GOAL_GB = 4.0


class Point(NamedTuple):
    """A stage at a size."""

    stage: str
    size: int
    turn: int
    rows: int
    """That came in."""
    rows_out: int
    cpu: float
    """Seconds of all processes."""
    clock: float
    peak: int
    shuffled: int
    written: int


class Curve(NamedTuple):
    """A stage over its sizes, the smallest first: medians of the rounds."""

    stage: str
    points: tuple[Point, ...]

    def each(self, what: str) -> list[float]:
        """Microseconds of `what` for a row, at each size."""
        return [getattr(point, what) / point.rows * 1e6 for point in self.points]

    def further(self, what: str) -> list[float]:
        """Microseconds of `what` for one more row, between each two sizes."""
        return [
            (getattr(large, what) - getattr(small, what)) / (large.rows - small.rows) * 1e6
            for small, large in pairwise(self.points)
        ]

    def flat(self, what: str) -> str:
        """Which of the two is the same everywhere."""
        flat = {
            "a row": _is_flat(_growth(self.each(what))),
            "a further row": _is_flat(_growth(self.further(what))),
        }
        return " and ".join(name for name, is_flat in flat.items() if is_flat) or "neither"


def _growth(costs: Sequence[float]) -> float | None:
    """The last to the first; unknown of one alone, and where a size has cost no more than a smaller
    one."""
    return costs[-1] / costs[0] if len(costs) > 1 and min(costs[0], costs[-1]) > 0 else None


def _is_flat(growth: float | None) -> bool:
    return growth is not None and 1 / _FLAT <= growth <= _FLAT


def curves(points: Sequence[Point]) -> list[Curve]:
    """The stages in their order, with what their rounds took at the median."""
    found = []
    for stage in dict.fromkeys(point.stage for point in points):
        of_stage = [point for point in points if point.stage == stage]
        sizes = sorted({point.size for point in of_stage})
        medians = [_median([point for point in of_stage if point.size == size]) for size in sizes]
        found.append(Curve(stage, tuple(medians)))
    return found


def _median(rounds: Sequence[Point]) -> Point:
    first = rounds[0]
    return first._replace(
        cpu=statistics.median(point.cpu for point in rounds),
        clock=statistics.median(point.clock for point in rounds),
        peak=max(point.peak for point in rounds),
        written=round(statistics.median(point.written for point in rounds)),
    )


def figures(points: Sequence[Point], share: float) -> list[Figure]:
    """Every size, and what the goals are about."""
    part = "" if share == 1 else f", {share:g} of the sizes"
    told = []
    for curve in curves(points):
        for point, cpu, clock in zip(
            curve.points, curve.each("cpu"), curve.each("clock"), strict=True
        ):
            name = f"{curve.stage}, {point.rows:,} rows of {point.size:,}"
            told += [
                Figure(f"{name}: CPU of a row", cpu, "microseconds"),
                Figure(f"{name}: clock of a row", clock, "microseconds"),
                Figure(f"{name}: rows that go out", point.rows_out, "rows"),
                Figure(f"{name}: shuffled", point.shuffled / point.rows, "bytes a row"),
                Figure(f"{name}: written", point.written / point.rows, "bytes a row"),
                Figure(f"{name}: peak memory", point.peak / 1e9, "GB", goal=_GOAL_GB, at_most=True),
            ]
        for what, called in (("cpu", "CPU"), ("clock", "clock")):
            for (small, large), cost in zip(
                pairwise(curve.points), curve.further(what), strict=True
            ):
                name = f"{curve.stage}, {small.size:,} to {large.size:,}: {called}"
                told.append(Figure(f"{name} of a further row", cost, "microseconds"))
            goal = _FLAT if what == "cpu" else None
            name = f"{curve.stage}: {called} of a row, most rows to fewest{part}"
            told += _grown(name, curve.each(what), goal)
            name = f"{curve.stage}: {called} of a further row, last to first{part}"
            told += _grown(name, curve.further(what))
    return told


def _grown(name: str, costs: Sequence[float], goal: float | None = None) -> list[Figure]:
    grown = _growth(costs)
    return [] if grown is None else [Figure(name, grown, "of itself", goal=goal, at_most=True)]


def rates(points: Sequence[Point]) -> str:
    """What a second of a core does at the largest size, as TOML for `wit plan --rates`."""
    tree = {}
    for curve in curves(points):
        if curve.stage in STAGES:
            last = curve.points[-1]
            origin = f"make bench-scale, {last.rows:,} rows of {last.size:,}, {form.here()}"
            tree[curve.stage] = {"rows_per_core_second": Rate(last.rows / last.cpu, origin)}
    return dump(tree)


def keep(points: Sequence[Point], share: float) -> None:
    form.keep("scale", figures(points, share))


def markdown(points: Sequence[Point]) -> str:
    """Tables for docs/performance.md."""
    sizes = [
        "| stage | size | rows in | CPU, a row | clock, a row | peak memory | shuffled, a row "
        "| written, a row |"
    ]
    sizes.append("| --- | --- | --- | --- | --- | --- | --- | --- |")
    growth = [
        "| stage | CPU of a row, most to fewest rows | CPU of a further row: between the sizes "
        "| last to first | the same everywhere | clock of a row, most to fewest |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for curve in curves(points):
        for point, cpu, clock in zip(
            curve.points, curve.each("cpu"), curve.each("clock"), strict=True
        ):
            sizes.append(
                f"| {curve.stage} | {point.size:,} | {point.rows:,} | {_micro(cpu)} "
                f"| {_micro(clock)} | {point.peak / 1e9:.1f} GB "
                f"| {point.shuffled / point.rows:,.0f} B "
                f"| {point.written / point.rows:,.0f} B |"
            )
        if len(curve.points) < 3:
            continue
        each, further = curve.each("cpu"), curve.further("cpu")
        growth.append(
            f"| {curve.stage} | {_times(each)} | {', '.join(map(_micro, further))} "
            f"| {_times(further)} | {curve.flat('cpu')} | {_times(curve.each('clock'))} |"
        )
    return "\n".join([*sizes, "", *growth])


def _times(costs: Sequence[float]) -> str:
    grown = _growth(costs)
    return "unknown" if grown is None else f"{grown:.2f}"


def _micro(microseconds: float) -> str:
    return f"{microseconds:,.0f} µs" if microseconds >= 100 else f"{microseconds:.3g} µs"


def draw(points: Sequence[Point]) -> None:
    """CPU of a row beside that among the fewest, and memory, over the rows."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    mpl.rcParams["svg.fonttype"] = "none"
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.8), layout="constrained")
    for curve in curves(points):
        rows = [point.rows for point in curve.points]
        cpu = curve.each("cpu")
        label = f"{curve.stage}, {_micro(cpu[-1])} at the end"
        left.plot(rows, [cost / cpu[0] for cost in cpu], marker="o", label=label)
        right.plot(rows, [point.peak / 1e9 for point in curve.points], marker="o")
    left.axhline(_FLAT, color="grey", linestyle="--", linewidth=1)
    left.set(ylabel="CPU of a row, beside the fewest rows")
    right.set(ylabel="peak memory, GB")
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    for axes in (left, right):
        axes.set(xscale="log", ylim=(0, None), xlabel="rows that come in")
        axes.grid(alpha=0.3)
    form.RESULTS.mkdir(parents=True, exist_ok=True)
    for kind in ("svg", "png"):
        figure.savefig(form.RESULTS / f"scale.{kind}", dpi=110)
    plt.close(figure)


def show(points: Sequence[Point], share: float) -> None:
    """Print the tables, and write the JSON, the curve and the rates."""
    keep(points, share)
    draw(points)
    part = "" if share == 1 else f", at {share:g} of the sizes"
    print(f"\nbench-scale{part}; rounds: {1 + max(point.turn for point in points)}\n")
    print(markdown(points))
    print(f"\n{form.RESULTS}: scale.json, scale.svg, scale.png")
    path = form.RESULTS.parent / "rates-scale.toml"
    path.write_text(rates(points), encoding="utf-8")
    print(f"rates for `wit plan --rates`: {path}")
