"""Walk: what a row costs in every stage over the demo's world. There is no peer that walks it all.

Two worlds are built in one session, a small and a large one, after another has started all workers.
A stage's rate is that of the rows that the large one has more: what is spent once falls out. Also
written, for `wit plan --rates`, as build/rates.toml: CPU seconds of the driver, the JVM and its
Python workers, and bytes of the tables. Not what Spark shuffles: tables as small as these are sent
whole to every task (`benchmarks.scale` and `benchmarks.plan` tell shuffles of large ones).
"""

import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from benchmarks import form
from benchmarks.form import publish, spark_seconds
from jobs import walk
from jobs.plan_rates import STAGES, Figure, dump
from jobs.plan_report import bytes_of, main_table
from jobs.run import Run
from jobs.world import make_world, serve

_SIZES = (300, 1000, 4000)
"""Of the first only the training is measured."""
_TRAINED = ("train", "evaluate")
"""Stages of a GPU, which the first world alone goes through."""
_PORT = 18575
_UNITS = {"derive": "offered queries/s", "audit": "overlaps/s", "fingerprint": "images/s"}


class Cost(NamedTuple):
    """What a stage took, and of what."""

    rows_in: int
    rows: int
    cpu_seconds: float
    bytes_out: int


def main(sizes: tuple[int, ...] = _SIZES) -> None:
    """Build the demo's corpus at each size, in one session; publish and write the rates."""
    costs: dict[str, list[Cost]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for number, pairs in enumerate(sizes):
            world = make_world(Path(scratch) / f"world-{pairs}", pairs, port=_PORT)
            with serve(world.folder, world.port):
                run = Run.open(Path(scratch) / f"run-{pairs}", world.settings, [])
                for stage in walk.STAGES:
                    if not number:
                        stage.make(run)
                    elif stage.verb not in _TRAINED:
                        costs.setdefault(stage.verb, []).append(_cost(run, stage))
                if not number:
                    trained = float(run.manifest("checkpoints")["notes"]["pairs_per_second"])
    rates = {verb: _rate(*of_verb) for verb, of_verb in costs.items()}
    figures = [
        form.Figure(f"{verb}, {sizes[1]} to {sizes[-1]} links", rate, _unit(verb))
        for verb, rate in rates.items()
    ]
    publish("walk", [*figures, form.Figure(f"train, {sizes[0]} links", trained, "pairs/s")])
    path = form.RESULTS.parent / "rates.toml"
    path.write_text(_written(costs, rates, sizes), encoding="utf-8")
    print(f"rates for `wit plan --rates`: {path}")


def _unit(verb: str) -> str:
    return _UNITS.get(verb, "pairs/s").removesuffix("/s") + "/CPU-s"


def _cost(run: Run, stage: walk.Stage) -> Cost:
    cpu = spark_seconds(lambda: stage.make(run))
    table = main_table(stage)
    manifest = run.manifest(table)
    written = bytes_of(run.path(table))
    return Cost(manifest["rows_in"], manifest["rows"], cpu, written)


def _rate(small: Cost, large: Cost) -> float:
    """Rows per CPU second, of those that the large one has more; of all where noise is greater."""
    rows, seconds = large.rows_in - small.rows_in, large.cpu_seconds - small.cpu_seconds
    if rows > 0 and seconds > 0:
        return rows / seconds
    return large.rows_in / large.cpu_seconds


def _written(costs: dict[str, list[Cost]], rates: dict[str, float], sizes: tuple[int, ...]) -> str:
    origin = f"make bench-walk, demo of {sizes[1]} and {sizes[-1]} links, {form.here()}"
    tree = {}
    for verb, (_, large) in costs.items():
        if verb not in STAGES:
            continue
        found = {
            "rows_per_core_second": rates[verb],
            "bytes_out_per_row": large.bytes_out / max(large.rows, 1),
        }
        tree[verb] = {name: Figure(value, origin) for name, value in found.items()}
    head = "# Measured on this machine; rows of a world of drawings, which are small.\n"
    return head + dump(tree)


if __name__ == "__main__":
    main(tuple(map(int, sys.argv[1:])) or _SIZES)
