"""A run that is looked at while it is made: its status, and the names of its jobs in Spark."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from jobs import lock, status, walk
from jobs.jsonlines import last
from jobs.ledger import Ledger
from jobs.metrics import WALK
from jobs.run import Run
from jobs.spark_ui import options
from jobs.working import working
from pipeline.errors import BadInput
from pipeline.schemas import DEDUPED, TABLES
from pipeline.settings import Settings, SparkSettings

_ROWS = pa.table([["a", "b"], [None, None]], schema=DEDUPED)


def _run(root: Path) -> Run:
    root.mkdir(parents=True, exist_ok=True)
    config = root.with_suffix(".toml")
    config.write_text("")
    return Run.open(root, config, [])


def _wit(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


# -- while it is made --------------------------------------------------------------------------


def test_of_a_stage_at_work_what_it_has_made_is_ready_and_what_was_there_before_is_not(
    tmp_path: Path,
) -> None:
    run = _run(tmp_path / "run")
    derive = walk.stage_of("derive")
    for settings in ({}, derive.settings(run.settings)):
        with lock.alone(run.root), run.stage("derive", settings, derive.inputs(run)):
            for table in ("bigrams", "words") if not settings else ("words",):
                rows = TABLES[table].schema.empty_table()
                run.write_arrow(table, rows, Ledger(1, 1))
            told = {table["table"]: table["state"] for table in status.facts(run)["tables"]}
        assert told["bigrams"] == "stale"
        assert told["words"] == ("ready" if settings else "stale")


def test_a_running_stage_is_seen_from_another_process_with_its_tasks(
    spark: SparkSession, tmp_path: Path
) -> None:
    run = _run(tmp_path / "run")
    run.metrics.every_seconds = 0.0

    def slow(n: int) -> int:
        time.sleep(0.2)
        return n

    with (
        lock.alone(run.root),
        run.stage("dedup", {}, {}),
        run.progress.watch(spark, "deduped"),
    ):
        spark.sparkContext.parallelize(range(6), 6).map(slow).collect()
        limit = time.monotonic() + 10
        while not (now := working(run.root)) or now.done != 6:
            assert time.monotonic() < limit, now
            time.sleep(0.1)
        told = _wit("status", "--run", str(run.root), "--json")
        shown = _wit("status", "--run", str(run.root))
    now = json.loads(told.stdout)["working"]
    assert (now["state"], now["verb"], now["step"]) == ("running", "dedup", "deduped")
    assert (now["host"], now["pid"]) == (socket.gethostname(), os.getpid())
    assert (now["done"], now["total"], now["unit"], now["failed"]) == (6, 6, "tasks", 0)
    assert now["executors"] == 1
    assert now["per_second"] > 0
    assert now["silent_seconds"] < 60
    tables = {table["table"]: table for table in json.loads(told.stdout)["tables"]}
    assert tables["deduped"]["state"] == "running"
    assert "dropped" not in tables["deduped"]
    assert tables["matched"]["state"] == "missing"
    assert f"by pid {os.getpid()} on {socket.gethostname()}" in shown.stdout
    assert "deduped: 6 of 6 tasks" in shown.stdout
    assert "told when it is done" in shown.stdout
    assert "next:" not in shown.stdout


def test_a_table_that_is_done_tells_its_drops_though_its_stage_goes_on(tmp_path: Path) -> None:
    run = _run(tmp_path / "run")
    with lock.alone(run.root), run.stage("dedup", {}, {}):
        run.write_arrow("deduped", _ROWS, Ledger(5, 2, {"near duplicate": 3}))
        told = status.facts(run)
    tables = {table["table"]: table for table in told["tables"]}
    assert tables["deduped"]["dropped"] == {"near duplicate": 3}
    assert tables["dropped"]["state"] == "running"
    assert told["working"]["step"] is None


def test_nobody_works_on_a_run_that_is_done(tmp_path: Path) -> None:
    run = _run(tmp_path / "run")
    assert working(run.root) is None
    with lock.alone(run.root), run.stage("dedup", {}, {}):
        pass
    assert working(run.root) is None


def test_a_stage_that_failed_is_told_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = _run(tmp_path / "run")
    with pytest.raises(BadInput), lock.alone(run.root), run.stage("match", {}, {}):
        raise BadInput("a.parquet is torn: fetch it again")
    status.show(run)
    told = capsys.readouterr().out
    assert "failed: match, by pid" in told
    assert "BadInput: a.parquet is torn: fetch it again" in told


def test_a_machine_that_shows_no_life_is_doubted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = _run(tmp_path / "run")
    path = run.root / lock.LOCK
    path.write_text(json.dumps({"host": "far-away", "pid": 7, "since": time.time() - 9000}))
    for minutes, state in ((1, "running"), (12, "silent")):
        os.utime(path, (time.time() - 60 * minutes,) * 2)
        now = working(run.root)
        assert now is not None
        assert (now.state, now.host, now.pid) == (state, "far-away", 7)
    status.show(run)
    told = capsys.readouterr().out
    assert f"no sign of life for 12 min: killed? `wit build --run {run.root}` goes on" in told


# -- two processes, an event log ---------------------------------------------------------------


def _source(folder: Path) -> Path:
    """Settings of a run that ingests and matches a few captions."""
    folder.mkdir()
    rows = [f"http://a.example/{n}.jpg,a photograph of a red boat number {n}" for n in range(40)]
    (folder / "table.csv").write_text("url,caption\n" + "\n".join([*rows, rows[0]]) + "\n")
    config = folder / "a.toml"
    config.write_text(
        "\n".join(
            [
                "[spark]",
                'master = "local[1]"',
                "partitions = 2",
                'driver_memory = "1g"',
                f'event_log = "{folder}/events"',
                "[ingest]",
                "languages = []",
                "[[ingest.tables]]",
                f'path = "{folder}/table.csv"',
            ]
        )
    )
    return config


def _until_it_works(root: Path, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        if last(root / WALK, 1 << 16):
            return
        assert process.poll() is None
        time.sleep(0.05)
    pytest.fail("the first line never came")


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run whose first process stood still, was looked at, and was killed; a second made it."""
    folder = tmp_path_factory.mktemp("watched") / "world"
    config, root = _source(folder), folder.parent / "run"
    words = ["ingest", f"--config={config}", f"--run={root}"]
    told: dict[str, Any] = {"root": root, "events": folder / "events"}
    first = subprocess.Popen(
        [sys.executable, "-m", "jobs", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _until_it_works(root, first)
        first.send_signal(signal.SIGSTOP)
        told["first"] = first.pid
        told["refused"] = _wit(*words)
        told["while"] = working(root)
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
    told["after"] = working(root)
    told["second"] = _wit(*words)
    return told


def test_a_second_build_at_once_is_refused_in_one_line(resumed: dict[str, Any]) -> None:
    refused = resumed["refused"]
    assert refused.returncode == 2
    lines = [line for line in refused.stderr.splitlines() if line]
    assert len(lines) == 1
    assert f"pid {resumed['first']} on {socket.gethostname()}, since 20" in lines[0]
    assert f"`wit status --run {resumed['root']}`" in lines[0]


def test_the_first_is_seen_as_long_as_it_is_there_and_as_killed_when_not(
    resumed: dict[str, Any],
) -> None:
    for when, state in (("while", "running"), ("after", "killed")):
        now = resumed[when]
        assert now is not None
        assert (now.state, now.verb, now.pid) == (state, "ingest", resumed["first"])


def test_after_the_kill_the_second_makes_the_table(resumed: dict[str, Any]) -> None:
    assert resumed["second"].returncode == 0, resumed["second"].stderr
    assert working(resumed["root"]) is None
    lines = last(resumed["root"] / WALK, 1 << 16)
    table = [line for line in lines if line["event"] == "table"]
    assert [(line["table"], line["rows_in"], line["rows"]) for line in table] == [
        ("candidates", 41, 40)
    ]
    end = lines[-1]
    assert (end["event"], end["verb"], end["failed_tasks"]) == ("end", "ingest", 0)
    assert end["tasks"] > 0
    assert end["task_seconds"] > 0
    assert len({line["run"] for line in lines}) == 2


def test_the_event_log_calls_jobs_by_our_verbs(resumed: dict[str, Any]) -> None:
    events = _events(resumed["events"])
    starts = [event for event in events if event["Event"] == "SparkListenerApplicationStart"]
    assert [start["App Name"] for start in starts] == ["webimagetext run"]
    jobs = [event["Properties"] for event in events if event["Event"] == "SparkListenerJobStart"]
    told = Counter(job.get("spark.job.description") for job in jobs)
    assert told["ingest: candidates"] > 0
    assert set(told) <= {"ingest", "ingest: candidates"}
    end = last(resumed["root"] / WALK, 1 << 16)[-1]
    assert {job["spark.jobGroup.id"] for job in jobs} == {f"ingest {end['run']}"}
    ended = [event for event in events if event["Event"] == "SparkListenerTaskEnd"]
    assert len(ended) == end["tasks"]
    ran = sum(event["Task Metrics"]["Executor Run Time"] for event in ended)
    assert end["task_seconds"] == pytest.approx(ran / 1000)


def _events(folder: Path) -> list[dict[str, Any]]:
    """The events of the packed parts of all logs in `folder`."""
    parts = sorted(folder.glob("eventlog_v2_*/events_*.zstd"))
    raw = [pa.CompressedInputStream(pa.OSFile(str(part)), "zstd").read() for part in parts]
    return [json.loads(line) for text in raw for line in text.splitlines()]


# -- names, options ----------------------------------------------------------------------------


def test_the_names_of_a_stage_are_gone_after_it(spark: SparkSession, tmp_path: Path) -> None:
    run, context = _run(tmp_path / "run"), spark.sparkContext
    told = [context.getLocalProperty("spark.job.description")]
    with run.stage("match", {}, {}):
        told.append(context.getLocalProperty("spark.job.description"))
        with run.progress.watch(spark, "matched"):
            told.append(context.getLocalProperty("spark.job.description"))
        told.append(context.getLocalProperty("spark.job.description"))
    told.append(context.getLocalProperty("spark.job.description"))
    assert told == [None, "match", "match: matched", "match", None]
    assert context.getLocalProperty("spark.jobGroup.id") is None


def test_spark_is_told_what_the_settings_say_and_spark_submit_the_rest(tmp_path: Path) -> None:
    plain, shown = SparkSettings(), SparkSettings(ui=True)
    assert options(plain, is_own=True) == {"spark.ui.enabled": "false"}
    assert options(plain, is_own=False) == {}
    assert options(shown, is_own=False) == {"spark.ui.enabled": "true"}
    folder = tmp_path / "a b" / "events"
    told = options(SparkSettings(event_log=str(folder)), is_own=False)
    assert told["spark.eventLog.dir"] == folder.as_uri()
    assert folder.is_dir()
    far = options(SparkSettings(event_log="hdfs:///logs"), is_own=False)
    assert far["spark.eventLog.dir"] == "hdfs:///logs"
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match=r"spark\.event_log: .*name another folder"):
        options(SparkSettings(event_log=str(tmp_path / "file" / "logs")), is_own=False)


def test_a_status_is_told_for_a_person_or_for_a_program(tmp_path: Path) -> None:
    run = _run(tmp_path / "run")
    both = _wit("status", "--run", str(run.root), "--json", "--watch")
    assert both.returncode == 2
    assert "leave out --watch" in both.stderr
    followed = _wit("status", "--run", str(run.root), "--watch")
    assert followed.returncode == 0
    assert "next: wit build" in followed.stdout
    told = status.facts(Run(run.root, Settings()))
    assert told["next"] == [stage.verb for stage in walk.STAGES]
