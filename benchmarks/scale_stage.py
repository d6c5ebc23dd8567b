"""The stages of one size: each is run once on a run that lies ready, in a process of its own.

python -m benchmarks.scale_stage FOLDER VERB...: what each took goes to FOLDER/told.jsonl, a line
each. Before that all of them are run once on the small run in FOLDER/warm, in the same session.
"""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import candidates
from benchmarks.form import spark_seconds
from benchmarks.shuffles import shuffled
from jobs import verify, walk
from jobs.run import Run

TOLD, WARM = "told.jsonl", "warm"
_BETWEEN = 2.0
"""Seconds: more than between two looks."""
_TABLE = {"dedup": "deduped", "verify": "shards"}
"""What a stage is told by, where it is not the first table that it writes."""


def main(folder: Path, verbs: list[str]) -> None:
    # What a stage takes the first time, to be loaded and compiled, is no part of its rows.
    for _ in _stages(folder / WARM, verbs):
        pass
    with (folder / TOLD).open("w") as told:
        for stage in _stages(folder, verbs):
            told.write(json.dumps(stage) + "\n")
            told.flush()


def _stages(folder: Path, verbs: list[str]) -> Iterator[dict[str, Any]]:
    run = Run.open(folder / "run", None, [])
    for verb in verbs:
        if verb == "balance":
            candidates.arrive(run)
        # What is written until the next look at the processes is this stage's.
        time.sleep(_BETWEEN)
        stage = _stage(run, verb)
        time.sleep(_BETWEEN)
        yield stage


def _stage(run: Run, verb: str) -> dict[str, Any]:
    """The rows, the seconds of all CPUs and of the clock, and when it began and ended."""
    before = shuffled(run)
    began = time.monotonic()
    cpu = spark_seconds(lambda: _make(run, verb))
    ended = time.monotonic()
    manifest = run.manifest(_TABLE.get(verb) or walk.stage_of(verb).writes[0])
    is_check = verb == "verify"
    return {
        "verb": verb,
        "rows_in": manifest["rows"] if is_check else manifest["rows_in"],
        "rows_out": manifest["rows"],
        "cpu": cpu,
        "began": began,
        "ended": ended,
        "shuffled": shuffled(run) - before,
    }


def _make(run: Run, verb: str) -> None:
    if verb != "verify":
        walk.stage_of(verb).make(run)
    elif not verify.main(None, run.root, None, None, quick=False):
        raise SystemExit(f"{run.root}: its shards are not whole")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
