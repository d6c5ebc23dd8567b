"""Tasks of a driver that was killed go on for a while, in the folder of the one that follows."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from jobs.lock import LOCK, RunIsBusy, alone
from jobs.run import Run
from pipeline.schemas import DEDUPED
from pipeline.settings import Settings

_LATE = pa.table([["late"], [None]], schema=DEDUPED)
_ROWS = pa.table([["one", "two"], [None, None]], schema=DEDUPED)


@pytest.mark.parametrize("place", [".", "_written_before"])
def test_what_a_late_task_commits_is_not_taken(
    spark: SparkSession, tmp_path: Path, place: str
) -> None:
    """A driver that is dead now has allowed it, and nobody is there to take it back."""
    run = Run(tmp_path, Settings())
    scratch = run.path("deduped") / place / "_temporary" / "0"

    def beside_late_tasks(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        committed, half = scratch / "task_7", scratch / "_temporary" / "attempt_8"
        committed.mkdir(parents=True, exist_ok=True)
        pq.write_table(_LATE, committed / "part-00007-late.zstd.parquet")
        half.mkdir(parents=True, exist_ok=True)
        (half / "part-00008-late.zstd.parquet").write_bytes(b"PAR1")
        yield from batches

    frame = spark.createDataFrame(_ROWS)
    with run.stage("dedup", {}, {}):
        run.write("deduped", frame.mapInArrow(beside_late_tasks, frame.schema))
    found = run.read_arrow("deduped")["pair_id"].to_pylist()
    assert sorted(found) == ["one", "two"]
    assert run.rows("deduped") == 2


def test_rows_of_a_run_that_was_lost_do_not_join_those_of_the_other(
    spark: SparkSession, tmp_path: Path
) -> None:
    run = Run(tmp_path, Settings())
    frame = spark.createDataFrame(_ROWS)

    def lose_it(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        (tmp_path / LOCK).write_text('{"host": "far-away", "pid": 7, "since": 1.0}')
        yield from batches

    with alone(tmp_path) as run.hold, run.stage("dedup", {}, {}):
        with pytest.raises(RunIsBusy, match="taken over by pid 7 on far-away"):
            run.write("deduped", frame.mapInArrow(lose_it, frame.schema))
        assert [file.name for file in run.path("deduped").iterdir()] == ["_begun.json"]


def test_a_folder_is_emptied_while_a_late_task_writes_into_it(tmp_path: Path) -> None:
    run = Run(tmp_path, Settings())
    folder = run.path("matched")
    is_over = threading.Event()

    def write() -> None:
        number = 0
        while not is_over.is_set():
            number += 1
            try:
                (folder / f".part-{number % 50:06d}.late").write_bytes(b"late")
            except FileNotFoundError:  # as a task that finds no folder
                continue

    folder.mkdir(parents=True)
    writers = [threading.Thread(target=write) for _ in range(4)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(200):
            with run.stage("match", {}, {}):
                assert run.begin("matched") == folder
    finally:
        is_over.set()
        for writer in writers:
            writer.join()
