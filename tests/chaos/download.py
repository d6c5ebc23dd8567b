"""Chaos: kill -9 during downloads, and the same bytes afterwards: `make test-chaos`.

A small corpus is downloaded undisturbed. Then, again and again, a download of the same pairs is
disturbed at random moments: a Python worker is killed, then the driver alone, whose orphans go on
for a while; what is left is taken up as a user would, by the same command; again a worker is
killed, then the driver with all of its processes. In the end there must be the same shards and
statistics.
"""

import argparse
import contextlib
import hashlib
import itertools
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

from jobs import walk
from jobs.run import MANIFEST, Run
from jobs.world import make_world, serve
from jobs.world.folder import ROUTES

_KINDS = ("worker", "driver", "worker", "all")
_PAIRS = 400
_PORT = 18593
_SETS = (
    "spark.master=local[2,4]",  # a task may fail three times
    "balance.pairs_per_raw_shard=40",
    "download.threads=8",
    "download.connections_per_host=8",
    "download.deadline_seconds=1.5",
)
_LIMIT_SECONDS = 300.0


def main() -> int:
    """Kill as often as asked for; 1 when anything differed afterwards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    chance = random.Random(asked.seed)
    with tempfile.TemporaryDirectory(prefix="chaos-") as scratch:
        root = Path(scratch)
        world = make_world(root / "web", _PAIRS, port=_PORT)
        _answer_always_alike(world.folder / ROUTES)
        with serve(world.folder, world.port):
            drawn = Run.open(root / "drawn", world.settings, list(_SETS))
            for stage in walk.STAGES[:4]:
                stage.make(drawn)
            drawn.spark.stop()
            _undisturbed(root, "first")  # compiles what workers of later ones find compiled
            seconds = _undisturbed(root, "whole")
            assert _told(root / "first") == _told(root / "whole")
            sys.stdout.write(f"undisturbed: {seconds:.1f} s\n")
            told: Counter[str] = Counter()
            for nth in itertools.count():
                if sum(told[kind] for kind in set(_KINDS)) >= asked.kills:
                    break
                told.update(_disturbed(root, seconds, chance, nth))
    sys.stdout.write(f"{dict(told)}\n")
    return 1 if told["DIFFERENT"] else 0


def _answer_always_alike(routes: Path) -> None:
    """Take out what answers otherwise the second time: a killed download asks it once more."""
    told = json.loads(routes.read_text(encoding="utf-8"))
    for path, route in told.items():
        if route["do"] in ("flaky", "heals"):
            told[path] = {"do": "status", "status": 503, "empty": True}
    routes.write_text(json.dumps(told), encoding="utf-8")


def _undisturbed(root: Path, name: str) -> float:
    """Download once, without trouble; how many seconds the images took."""
    run = root / name
    shutil.copytree(root / "drawn", run)
    process = _start(run)
    assert _wait_for(run / "05_images" / "_begun.json", process)
    began = time.monotonic()
    assert _wait_for(run / "05_images" / MANIFEST, process), run.with_suffix(".log").read_text()
    seconds = time.monotonic() - began
    assert process.wait(_LIMIT_SECONDS) == 0, run.with_suffix(".log").read_text()
    return seconds


def _disturbed(root: Path, seconds: float, chance: random.Random, nth: int) -> Counter[str]:
    """Kill, go on, kill and go on a download that takes so many seconds, and compare."""
    run = root / f"killed{nth}"
    shutil.copytree(root / "drawn", run)
    told: Counter[str] = Counter()
    process = _start(run)
    for kind in _KINDS:
        if process.poll() is not None:
            process = _start(run)
        if not _wait_for(run / "05_images" / "_begun.json", process):
            break  # it had come to its end before
        time.sleep(chance.uniform(0, seconds / 2))
        while not _kill(process, kind) and process.poll() is None:
            time.sleep(0.05)  # between two stages no worker works
        told[kind] += process.poll() is None or process.returncode < 0
        if kind != "worker":
            process.wait()
    # A worker's task is tried again by Spark; everything else by whoever runs the command.
    if process.wait(_LIMIT_SECONDS) != 0:
        assert _start(run).wait(_LIMIT_SECONDS) == 0, run.with_suffix(".log").read_text()
    whole, mine = _told(root / "whole"), _told(run)
    verdict = "equal" if whole == mine else "DIFFERENT"
    there = sum(name.endswith(".tar") for name in mine)
    sys.stdout.write(f"{nth + 1:3}: killed {dict(told)}; {there} shards, {verdict}\n")
    sys.stdout.flush()
    for name in sorted(whole.keys() | mine.keys()):
        if whole.get(name) != mine.get(name):
            sys.stdout.write(f"    {name}: {whole.get(name)} became {mine.get(name)}\n")
    shutil.rmtree(run, ignore_errors=True)  # what is left of Spark clears up too
    return told + Counter([verdict])


def _start(run: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "jobs", "download", "--run", str(run)]
    with run.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def _wait_for(path: Path, process: "subprocess.Popen[bytes]") -> bool:
    """Whether it comes before the process ends."""
    end = time.monotonic() + _LIMIT_SECONDS
    while not path.exists() and process.poll() is None:
        assert time.monotonic() < end, f"{path} does not come"
        time.sleep(0.02)
    return path.exists()


def _kill(process: "subprocess.Popen[bytes]", kind: str) -> int:
    """Kill -9; how many processes that were."""
    if process.poll() is not None:
        return 0
    driver = psutil.Process(process.pid)
    below = driver.children(recursive=True)
    if kind == "worker":
        victims = [child for child in below if _is_worker(child)][-1:]
    else:
        victims = [driver] if kind == "driver" else [driver, *below]
    for victim in victims:
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
    return len(victims)


def _is_worker(process: psutil.Process) -> bool:
    """Whether it is one of Spark's Python workers, or the daemon that they are forks of."""
    with contextlib.suppress(psutil.Error):  # some are gone, or dead and not yet buried
        return "pyspark.daemon" in process.cmdline()
    return False


def _told(run: Path) -> dict[str, Any]:
    """The digest of every file of the images, and the statistics but for their pace."""
    images = run / "05_images"
    told: dict[str, Any] = {}
    for file in sorted(images.iterdir()):
        if file.suffix in (".tar", ".parquet"):
            told[file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
        elif file.name.endswith("_stats.json"):
            told[file.name] = json.loads(file.read_text()) | {"pace": None}
        elif file.name.startswith(".0"):
            told[file.name] = "staged and left behind"
    manifest = json.loads((images / MANIFEST).read_text())
    told["manifest"] = {name: manifest[name] for name in ("rows_in", "rows", "dropped", "content")}
    return told


if __name__ == "__main__":
    sys.exit(main())
