"""jobs.metrics, jobs.jsonlines"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jobs import jsonlines
from jobs.ledger import Ledger
from jobs.metrics import WALK, Metrics, size_of
from jobs.run import Run
from pipeline import storage
from pipeline.schemas import DEDUPED
from pipeline.settings import Settings
from tests.s3_server import BUCKET, s3_server

_ROWS = pa.table([["a", "b"], [None, None]], schema=DEDUPED)


def _lines(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / WALK).read_text().splitlines()]


def test_a_stage_is_told_as_it_begins_and_ends_and_each_table_with_its_drops(
    tmp_path: Path,
) -> None:
    run = Run(tmp_path, Settings())
    with run.stage("dedup", {}, {}):
        run.write_arrow("deduped", _ROWS, Ledger(7, 2, {"near duplicate": 4, "bad": 1}))
    begin, table, end = _lines(tmp_path)
    assert [line["event"] for line in (begin, table, end)] == ["begin", "table", "end"]
    for line in (begin, table, end):
        assert line["verb"] == "dedup"
        assert line["run"] == run.metrics.id
        assert line.keys() >= {"time", "host", "pid", "since"}
    assert (table["table"], table["rows_in"], table["rows"]) == ("deduped", 7, 2)
    assert table["dropped"] == {"bad": 1, "near duplicate": 4}
    on_disk = (run.path("deduped") / "part-00000.parquet").stat().st_size
    assert table["bytes"] == on_disk == size_of(run.path("deduped"))
    assert table["rows_in_per_second"] == pytest.approx(7 / table["seconds"], rel=0.2)
    assert table["bytes_per_second"] == pytest.approx(on_disk / table["seconds"], rel=0.2)
    assert end["seconds"] >= table["seconds"]


def test_a_table_that_was_begun_before_has_no_rates(tmp_path: Path) -> None:
    run = Run(tmp_path, Settings())
    for _ in range(2):
        with run.stage("download", {}, {}):
            run.begin("images", resume=True)
    with run.stage("download", {}, {}):
        run.begin("images", resume=True)
        run.finish("images", Ledger(3, 3))
    table = next(line for line in _lines(tmp_path) if line["event"] == "table")
    assert table["taken_up"]
    assert table["rows_in_per_second"] is None
    assert table["bytes_per_second"] is None


def test_a_stage_that_fails_says_so_with_its_reason(tmp_path: Path) -> None:
    run = Run(tmp_path, Settings())
    with pytest.raises(ValueError, match="no"), run.stage("match", {}, {}):
        raise ValueError("no such thing\nat line 3")
    assert [line["event"] for line in _lines(tmp_path)] == ["begin", "failed"]
    assert _lines(tmp_path)[-1]["error"] == "ValueError: no such thing"


def test_lines_that_cannot_be_written_do_not_end_a_walk_and_are_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(tmp_path, Settings())
    (tmp_path / WALK).mkdir()
    with run.stage("dedup", {}, {}):
        run.write_arrow("deduped", _ROWS, Ledger(2, 2))
    assert run.rows("deduped") == 2
    assert capsys.readouterr().err.count(f"{WALK} cannot be written (Is a directory)") == 1


def test_a_line_that_a_kill_tore_costs_no_other(tmp_path: Path) -> None:
    path = tmp_path / WALK
    jsonlines.append(path, {"n": 1})
    with path.open("ab") as file:
        file.write(b'{"n": 2, "half')
    assert jsonlines.last(path, 1 << 16) == [{"n": 1}]
    jsonlines.append(path, {"n": 3})
    assert jsonlines.last(path, 1 << 16) == [{"n": 1}, {"n": 3}]


def test_a_run_in_a_store_has_its_lines_there_behind_those_of_before(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    with s3_server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        root = storage.place(f"s3://{BUCKET}/watched")
        for verb in ("ingest", "match"):
            metrics = Metrics(root, said.append)
            with metrics.stage(verb):
                storage.put(root / "03_matched" / "part.parquet", b"12345")
                storage.put(root / "03_matched" / "_begun.json", b"{}")
                metrics.going("matched", done=1, total=2)
                # A look from elsewhere while it is made.
                assert jsonlines.last(root / WALK, 1 << 16)[-1]["event"] == "begin"
                metrics.table("matched", Ledger(3, 3), root / "03_matched")
                table = jsonlines.last(root / WALK, 1 << 16)[-1]
                assert (table["event"], table["bytes"]) == ("table", 5)
        lines = jsonlines.last(root / WALK, 1 << 16)
        told = [(line["verb"], line["event"]) for line in lines]
        events = ("begin", "going", "table", "end")
        assert told == [(verb, event) for verb in ("ingest", "match") for event in events]
        assert said == []
        # A bucket that denies writes stops the stage where it writes, and not here.
        server.refuse(None, 403, "AccessDenied", lambda method, path: method == "PUT")
        with Metrics(root, said.append).stage("draw"):
            pass
    assert len(said) == 1
    assert f"{root / WALK} cannot be written" in said[0]


@pytest.mark.parametrize("rubbish", [b"\x00\x00\x00", b"\xff\xfe", b"[1]", b"7", b"[" * 9000])
def test_what_is_no_line_is_passed_over(tmp_path: Path, rubbish: bytes) -> None:
    path = tmp_path / WALK
    path.write_bytes(b'{"n": 1}\n' + rubbish + b'\n{"n": 2}\n')
    assert jsonlines.last(path, 1 << 16) == [{"n": 1}, {"n": 2}]


def test_only_whole_lines_of_the_end_of_a_long_file_are_read(tmp_path: Path) -> None:
    path = tmp_path / WALK
    for n in range(100):
        jsonlines.append(path, {"n": n, "of": "a line"})
    found = jsonlines.last(path, 200)
    assert 3 < len(found) < 10
    assert [line["n"] for line in found] == list(range(100 - len(found), 100))
    assert jsonlines.last(tmp_path / "none", 200) == []


def test_processes_that_write_at_once_tear_no_line_of_each_other(tmp_path: Path) -> None:
    path = tmp_path / WALK
    script = (
        "import sys; from pathlib import Path; from jobs.jsonlines import append\n"
        "for n in range(300): append(Path(sys.argv[1]), {'n': n, 'who': sys.argv[2] * 500})"
    )
    command = [sys.executable, "-c", script, str(path)]
    writers = [subprocess.Popen([*command, who]) for who in "ab"]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    lines = [json.loads(line) for line in path.read_bytes().splitlines() if line]
    for who in "ab":
        assert [line["n"] for line in lines if line["who"] == who * 500] == list(range(300))
