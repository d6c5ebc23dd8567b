"""Walk: pairs per second of every stage over the demo's world. There is no peer that walks it all.

Wall clock: the stages wait for servers and for Spark. The first round also starts the workers, so
the median of the rounds is told.
"""

import statistics
import tempfile
from pathlib import Path

from benchmarks.form import Figure, publish
from jobs import walk
from jobs.run import Run
from jobs.world import make_world, serve

_PAIRS = 2000
_ROUNDS = 3
_PORT = 18575


def main() -> None:
    """Build the demo's corpus several times over, in one session, and publish the rates."""
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        world = make_world(Path(scratch) / "world", _PAIRS, port=_PORT)
        with serve(world.folder, world.port):
            for number in range(_ROUNDS):
                run = Run.open(Path(scratch) / f"run-{number}", world.settings, [])
                walk.build(run)
                for stage in walk.STAGES:
                    manifest = run.manifest(stage.writes[-1])
                    rate = manifest["rows_in"] / max(manifest["seconds"], 1e-9)
                    rates.setdefault(stage.verb, []).append(rate)
    publish(
        "walk",
        [
            Figure(f"{verb}, {_PAIRS} pairs", statistics.median(of_verb), "rows in/s")
            for verb, of_verb in rates.items()
        ],
    )


if __name__ == "__main__":
    main()
