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
_UNITS = {
    "derive": "offered queries/s",
    "audit": "overlaps/s",
    "fingerprint": "images/s",
    "evaluate": "images/s",
}


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
                    rates.setdefault(stage.verb, []).append(_rate(run, stage))
    publish(
        "walk",
        [
            Figure(
                f"{verb}, {_PAIRS} links", statistics.median(of_verb), _UNITS.get(verb, "pairs/s")
            )
            for verb, of_verb in rates.items()
        ],
    )


def _rate(run: Run, stage: walk.Stage) -> float:
    """Rows that came in, by the seconds until the stage's last table was there."""
    if stage.verb == "train":
        return float(run.manifest("checkpoints")["notes"]["pairs_per_second"])
    manifests = [run.manifest(table) for table in stage.writes]
    rows = max(manifest["rows_in"] for manifest in manifests)
    return float(rows / max(*(manifest["seconds"] for manifest in manifests), 1e-9))


if __name__ == "__main__":
    main()
