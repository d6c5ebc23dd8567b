"""wit verify: what it says, and its exit code"""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from jobs.__main__ import app
from jobs.stamps import digest
from pipeline.errors import BadInput, MissingTable
from tests.pipeline import verify_shards as made


def _verify(*words: object) -> Result:
    return CliRunner().invoke(app, ["verify", *[str(word) for word in words]])


def _report(file: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(file.read_text())
    return told


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return made.write_ours(tmp_path / "shards", made.pairs(7))


def test_whole_shards_are_said_to_be_whole(folder: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    told = _verify(folder, "--workers", 2, "--report", report)
    assert (told.exit_code, "7 samples in 2 shards: whole\n" in told.output) == (0, True)
    found = _report(report)
    assert (found["whole"], found["ours"], found["findings"]) == (True, True, [])
    assert (found["samples"], found["shards"]) == (7, 2)


def test_damage_is_told_with_its_shard_and_key_and_fails_the_command(
    folder: Path, tmp_path: Path
) -> None:
    key, image, caption = made.pairs(1, 6)[0]
    part = [*made.pairs(2, 4), (key, image[: len(image) // 2], caption)]
    rows = made.write_tar(folder / "000001.tar", [made.members(pair) for pair in part])
    made.write_sidecar(folder / "000001.tar", part, rows)
    made.write_places(folder / "000001.tar", [pair[0] for pair in part], rows)
    made.write_index(folder)
    told = _verify(folder, "--workers", 1, "--report", tmp_path / "report.json")
    assert told.exit_code == 1
    (line,) = [line for line in told.output.splitlines() if line.startswith("an image")]
    assert line.startswith(f"an image that is truncated: 1 (000001.tar, {key}, byte {rows[2][0]:,}")
    assert "7 samples in 2 shards: not whole, findings: 1" in told.output
    (finding,) = _report(tmp_path / "report.json")["findings"]
    assert (finding["key"], finding["at"]) == (key, rows[2][0])
    quick = _verify(folder, "--workers", 1, "--quick")
    assert quick.exit_code == 0
    assert "whole (images were not decoded)" in quick.output


def test_a_key_in_two_shards_is_told_by_its_name(tmp_path: Path) -> None:
    ours = made.write_ours(tmp_path / "ours", [*made.pairs(4), *made.pairs(3, 3)])
    told = _verify(ours, "--workers", 2, "--quick")
    assert told.exit_code == 1
    key = made.pairs(1, 3)[0][0]
    assert f"a key in two shards: 1 (000001.tar, {key}, as 000000.tar)" in told.output


def test_shards_of_others_are_told_apart(tmp_path: Path) -> None:
    for name in ("a", "b"):
        samples = [[(f"{name}{n}.jpg", made.jpeg(n)), (f"{name}{n}.txt", b"x")] for n in range(3)]
        made.write_tar(tmp_path / f"{name}.tar", samples)
    told = _verify(tmp_path, "--workers", 1)
    assert told.exit_code == 0
    assert "6 samples in 2 shards: whole (no index.json of ours" in told.output


def test_the_shards_of_a_run_are_held_against_its_manifest(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.toml").write_text("")
    no_table = _verify("--run", run)
    assert isinstance(no_table.exception, MissingTable)
    shutil.copytree(folder, run / "09_shards")
    manifest = run / "09_shards" / "_manifest.json"
    manifest.write_text(json.dumps({"rows": 7, "digest": digest({})}))
    assert _verify("--run", run, "--workers", 1, "--quick").exit_code == 0
    manifest.write_text(json.dumps({"rows": 8, "digest": digest({})}))
    told = _verify("--run", run, "--workers", 1, "--quick")
    assert told.exit_code == 1
    assert "a manifest of other rows: 1" in told.output


def _of_group(group: int) -> list[int]:
    """The processes of a session that was begun by process `group`."""
    stats = [path.read_text() for path in Path("/proc").glob("[0-9]*/stat")]
    fields = [stat.rpartition(")")[2].split() for stat in stats]
    numbers = [int(stat.split()[0]) for stat in stats]
    return [n for n, field in zip(numbers, fields, strict=True) if int(field[2]) == group]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
def test_an_interrupt_while_workers_begin_is_one_line(folder: Path) -> None:
    command = [sys.executable, "-m", "jobs", "verify", str(folder), "--workers", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    # It, who counts its resources, and a worker that has only just begun.
    while len(_of_group(process.pid)) < 3 and process.poll() is None:
        pass
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=100)[1]
    assert process.returncode == 130
    assert [line for line in said.splitlines() if line] == ["wit: interrupted"]


def test_mistakes_of_use_say_so(folder: Path, tmp_path: Path) -> None:
    wrong: list[tuple[list[object], str]] = [
        ([], "name what is verified"),
        ([folder, "--run", folder], "name what is verified"),
        ([tmp_path / "none"], "is no folder"),
        ([tmp_path], "holds no tar"),
        ([folder, "--report", tmp_path / "none" / "file"], "cannot be written"),
    ]
    for words, told in wrong:
        error = _verify(*words).exception
        assert isinstance(error, BadInput)
        assert told in str(error)
