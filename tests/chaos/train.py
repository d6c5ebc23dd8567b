"""Chaos: kill -9 during training, and the same weights afterwards: `make test-chaos-train`.

A small model is trained undisturbed, by the job of `wit train`. Then, again and again, the same
training is killed at random moments, alone or with all of its processes, and gone on with by the
same job with another number of workers. In the end there must be the same weights, statistics,
random numbers and loss curve, to the bit.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from jobs import train
from jobs.lock import alone
from jobs.run import MANIFEST, Run
from pipeline.schemas import TABLES
from pipeline.settings import LoaderSettings, Settings, TrainSettings
from pipeline.trainer.sinks import METRICS, lines_of
from tests.pipeline.trainer_shards import pairs, shard_stage, vocabulary_stage

_ROOT = Path(__file__).parents[2]
_PAIRS, _BATCH, _MERGES = 48, 8, 40
_WORKERS = (0, 1, 3, 2)
_LIMIT_SECONDS = 300.0
_PACE = ("pairs_per_second", "data_share", "seconds", "peak_memory_bytes", "mfu")


class Round(NamedTuple):
    """What came of one training that was killed again and again."""

    kills: list[int]
    """The newest checkpoint's step at each kill; 0 where there was none."""
    differences: list[str]


def main() -> int:
    """Kill as often as asked for; 1 when anything differed afterwards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kills", type=int, default=4, help="of each round")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=float, default=20.0)
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, default=0, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.train is not None:
        process(asked.train, asked.workers, asked.epochs)
        return 0
    chance = random.Random(asked.seed)
    unequal = kills = 0
    with tempfile.TemporaryDirectory(prefix="chaos-") as scratch:
        root = Path(scratch)
        seconds = undisturbed(root, asked.epochs)
        sys.stdout.write(f"undisturbed: {seconds:.3f} s a step\n")
        for nth in range(asked.rounds):
            told = disturbed(root, seconds, chance, asked.kills, nth, asked.epochs)
            verdict = "equal" if not told.differences else "UNEQUAL"
            sys.stdout.write(f"{nth + 1:3}: killed at steps {told.kills}: {verdict}\n")
            sys.stdout.writelines(f"    {line}\n" for line in told.differences)
            sys.stdout.flush()
            unequal += bool(told.differences)
            kills += len(told.kills)
    sys.stdout.write(f"{asked.rounds} rounds, {kills} kills, {unequal} unequal\n")
    return 1 if unequal else 0


def undisturbed(root: Path, epochs: float) -> float:
    """Make the shards, train on them, and leave all in `root/whole`; the seconds of a step."""
    run = Run(root / "drawn", _settings(2, epochs))
    shard_stage(run, pairs(_PAIRS))
    vocabulary_stage(run, _MERGES)
    shutil.copytree(root / "drawn", root / "whole")
    started = _start(root / "whole", 2, epochs)
    assert _wait_for_step(root / "whole", started, 1), _log(root / "whole")
    began, first = time.monotonic(), _logged(root / "whole")
    assert started.wait(_LIMIT_SECONDS) == 0, _log(root / "whole")
    return (time.monotonic() - began) / (_logged(root / "whole") - first)


def _settings(workers: int, epochs: float) -> Settings:
    return Settings(
        train=TrainSettings(
            model="tiny",
            batch_size=_BATCH,
            epochs=epochs,
            warmup_steps=5,
            save_every_steps=4,
            log_every_steps=3,
            keep_checkpoints=2,
            keep_every_steps=20,
            device="cpu",
            cpu_threads=1,
        ),
        loader=LoaderSettings(workers=workers),
    )


def process(root: Path, workers: int, epochs: float) -> None:
    """What a process of `wit train` does, on shards that no stage has made."""
    run = Run(root, _settings(workers, epochs))
    with alone(root), run.stage("train", {}, {}):
        train.main(run)


def disturbed(
    root: Path, seconds: float, chance: random.Random, kills: int, nth: int, epochs: float
) -> Round:
    """Kill and go on with a training of so many seconds a step, and compare with the whole one."""
    farthest = max(2, 2 * int(epochs * _PAIRS / _BATCH) // (kills + 1))
    run = root / f"killed{nth}"
    shutil.copytree(root / "drawn", run)
    done: list[int] = []
    for kill in range(kills):
        started = _start(run, _WORKERS[kill % len(_WORKERS)], epochs)
        # Behind all that was logged before, so that it comes to its end some time; then anywhere
        # in a few steps, or in the writing of a checkpoint.
        is_under_way = _wait_for_step(run, started, _logged(run) + chance.randrange(1, farthest))
        time.sleep(chance.uniform(0, 4 * seconds) if is_under_way else 0)
        if not _kill(started, with_workers=chance.random() < 0.5):
            break  # it had come to its end before
        done.append(max(_steps(run), default=0))
    last = _start(run, _WORKERS[kills % len(_WORKERS)], epochs)
    assert last.wait(_LIMIT_SECONDS) == 0, _log(run)
    found = Round(done, _differences(root / "whole", run))
    shutil.rmtree(run, ignore_errors=True)
    return found


def _start(run: Path, workers: int, epochs: float) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "tests.chaos.train"]
    command += ["--train", str(run), "--workers", str(workers), "--epochs", str(epochs)]
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), "OMP_NUM_THREADS": "1"}
    with run.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, cwd=_ROOT, start_new_session=True
        )


def _wait_for_step(run: Path, started: "subprocess.Popen[bytes]", step: int) -> bool:
    """Whether a line of `step` or a later one is logged before the process ends."""
    end = time.monotonic() + _LIMIT_SECONDS
    while _logged(run) < step and started.poll() is None:
        assert time.monotonic() < end, _log(run)
        time.sleep(0.01)
    return started.poll() is None


def _logged(run: Path) -> int:
    """The step of the last line that is logged."""
    lines = lines_of(_checkpoints(run) / METRICS)
    return max((line["step"] for line in lines), default=0)


def _kill(process: "subprocess.Popen[bytes]", *, with_workers: bool) -> bool:
    """Kill -9, with or without the processes that it started; whether it still lived."""
    if process.poll() is not None:
        return False
    trainer = psutil.Process(process.pid)
    workers = trainer.children(recursive=True) if with_workers else []
    victims = [*workers, trainer]
    for victim in victims:
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
    return process.wait() < 0


def _checkpoints(run: Path) -> Path:
    return run / TABLES["checkpoints"].folder


def _steps(run: Path) -> list[int]:
    return [int(path.name[5:]) for path in _checkpoints(run).glob("step_*")]


def _differences(whole: Path, mine: Path) -> list[str]:
    expected, found = _told(whole), _told(mine)
    names = sorted(expected.keys() | found.keys())
    return [
        f"{name}: {expected.get(name)} became {found.get(name)}"
        for name in names
        if expected.get(name) != found.get(name)
    ]


def _told(run: Path) -> dict[str, Any]:
    """What is in the checkpoints and in the log, but for the pace."""
    folder = _checkpoints(run)
    told: dict[str, Any] = {}
    for path in sorted(folder.glob("*step_*")):
        state = json.loads((path / "state.json").read_text())
        told[path.name] = {name: state[name] for name in ("step", "loss", "skipped")}
        told |= {f"{path.name}/{name}": digest for name, digest in state["sha256"].items()}
    for text in (folder / METRICS).read_text().splitlines():
        line = json.loads(text)
        told[f"line {line['step']}"] = {n: v for n, v in line.items() if n not in _PACE}
    manifest = json.loads((folder / MANIFEST).read_text())
    told["manifest"] = [manifest["rows"], manifest["content"], manifest["notes"]["final_loss"]]
    return told


def _log(run: Path) -> str:
    return run.with_suffix(".log").read_text(errors="replace")[-2000:]


if __name__ == "__main__":
    sys.exit(main())
