"""Shards: the same files for other numbers of cores and partitions, and after a kill."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobs import walk
from jobs.run import Run

_TO_WAIT = 200.0


@pytest.fixture(scope="module")
def copied(built: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run as it was before its shards."""
    root = tmp_path_factory.mktemp("runs") / "copied"
    shutil.copytree(built.root, root, ignore=shutil.ignore_patterns("_scratch"))
    for table in ("shards", "audit", "checkpoints", "scores"):
        shutil.rmtree(root / built.path(table).name, ignore_errors=True)
    return Run.open(root, None, ["spark.partitions=7", "spark.master=local[1]"], update=True)


def _files(folder: Path) -> dict[str, bytes]:
    kept = (".tar", ".parquet", ".places", ".json")
    files = [file for file in folder.iterdir() if file.suffix in kept]
    return {file.name: file.read_bytes() for file in files if not file.name.startswith("_")}


def test_a_killed_run_goes_on_and_its_shards_are_those_of_a_whole_one(
    copied: Run, built: Run
) -> None:
    folder, whole = copied.path("shards"), _files(built.path("shards"))
    tars = sorted(name for name in whole if name.endswith(".tar"))
    assert len(tars) > 3
    log = copied.root.with_suffix(".log")
    with log.open("wb") as stream:
        command = [sys.executable, "-m", "jobs", "shard", f"--run={copied.root}"]
        process = subprocess.Popen(command, stdout=stream, stderr=stream, start_new_session=True)
        end = time.monotonic() + _TO_WAIT
        while not list(folder.glob("[0-9]*.tar")) and process.poll() is None:
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    done = {file.name: file.stat().st_ino for file in folder.glob("[0-9]*.tar")}
    assert done, log.read_text()
    assert not (folder / "_manifest.json").exists()
    # What a kill may leave, and a shard of another plan.
    (folder / ".000001.0123.tar").write_bytes(b"half")
    (folder / f"{len(tars):06d}.tar").write_bytes(b"of another plan")

    walk.one(copied, "shard")
    assert _files(folder) == whole
    assert not list(folder.glob(".*"))
    assert {name: (folder / name).stat().st_ino for name in done} == done
    assert copied.manifest("shards")["rows"] == built.manifest("shards")["rows"]


def test_again_writes_every_shard_anew(copied: Run, built: Run) -> None:
    folder = copied.path("shards")
    before = {file.name: file.stat().st_mtime_ns for file in folder.glob("[0-9]*.tar")}
    walk.one(copied, "shard", again=True)
    after = {file.name: file.stat().st_mtime_ns for file in folder.glob("[0-9]*.tar")}
    assert after.keys() == before.keys()
    assert all(after[name] > before[name] for name in before)
    assert _files(folder) == _files(built.path("shards"))
