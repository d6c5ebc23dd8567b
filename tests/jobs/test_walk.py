"""The walk: one small world through every job, as a person runs them."""

import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import SETS

from jobs import follow, planted, report, status, walk
from jobs.run import Run
from jobs.train import VOCABULARY
from jobs.world import World
from pipeline.ingest.links import links_in_wat
from pipeline.schemas import SAMPLE_MEMBERS
from pipeline.trainer import tokenizer
from pipeline.trainer.samples import Batches, Samples


def _shards(run: Run) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(run.path("shards").glob("*.tar"))}


def test_every_row_is_accounted_for_in_every_table(built: Run) -> None:
    """Each table takes in what the one before it gave out."""
    rows = {table: built.rows(table) for stage in walk.STAGES for table in stage.writes}
    came_in = {table: built.manifest(table)["rows_in"] for table in rows}
    before = {
        "matched": "candidates",
        "drawn": "matched",
        "images": "drawn",
        "deduped": "images",
        "balanced": "deduped",
        "shards": "balanced",
        "checkpoints": "shards",
        "audit": "overlaps",
    }
    assert {table: came_in[table] for table in before} == {
        table: rows[earlier] for table, earlier in before.items()
    }
    for table in rows:
        found = sum(pq.read_metadata(file).num_rows for file in built.files(table))
        is_of_rows = table not in ("images", "checkpoints", "scores")
        assert found == rows[table] or not is_of_rows, table
    assert len(Samples(built.path("shards"))) == rows["shards"]


def test_what_was_planted_became_what_it_must(built: Run, world: World) -> None:
    lines = planted.compare(built, world.truth)
    assert {line.kind: line.became for line in lines if not line.ok} == {}
    assert len(lines) > 30


def test_one_pair_is_followed_from_the_wat_to_a_batch(built: Run, world: World) -> None:
    links = {link.url: link for link in links_in_wat(str(world.folder / "crawl.wat.gz"))}
    kept = built.read_arrow("shards", ["pair_id", "url", "caption", "shard"]).to_pylist()
    pair = next(row for row in kept if row["url"] in links)
    rows = follow.rows_of(built, pair["pair_id"])
    passed = ("candidates", "matched", "drawn", "images", "fingerprints", "deduped", "balanced")
    for table in (*passed, "shards"):
        assert len(rows[table] or []) == 1, table
    assert rows["dropped"] == []

    cutter = tokenizer.load(built.path("checkpoints") / VOCABULARY)
    samples = Samples(built.path("shards"))
    batches = Batches(samples, cutter, batch_size=32, side=32, context=64, seed=0)
    for batch in batches.between(0, 2 * batches.per_epoch, workers=0):
        if pair["pair_id"] in batch.pair_ids:
            tokens = batch.tokens_BL[batch.pair_ids.index(pair["pair_id"])].tolist()
            said = cutter.decode(tokens[1 : tokens.index(cutter.end)])
            assert said.split() == cutter.decode(cutter.encode(pair["caption"])).split()
            return
    pytest.fail("the pair is in no batch of two epochs")


def test_following_a_planted_leak_tells_why_it_was_dropped(
    built: Run, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    leak = next(entry for entry in world.truth["leaks"] if entry["transformation"] == "flip")
    rows = built.read_arrow("candidates", ["pair_id", "url"]).to_pylist()
    follow.show(built, next(row["pair_id"] for row in rows if row["url"] == leak["url"]))
    told = capsys.readouterr().out
    assert "evaluation overlap" in told
    assert leak["eval_image"] in told
    assert re.search(r"09_shards +not here", told)


def test_the_shards_are_read_by_the_webdataset_package_as_they_are(built: Run) -> None:
    import webdataset

    paths = [str(built.path("shards") / name) for name in sorted(_shards(built))]
    samples = list(webdataset.WebDataset(paths, shardshuffle=False))
    rows = built.read_arrow("shards", ["pair_id", "caption"]).to_pylist()
    assert [sample["__key__"] for sample in samples] == [row["pair_id"] for row in rows]
    assert [sample["txt"].decode() for sample in samples] == [row["caption"] for row in rows]
    assert all(json.loads(sample["json"])["kept_for"] for sample in samples)


def test_a_shard_is_plain_ustar_with_its_members_in_order(built: Run) -> None:
    index = json.loads((built.path("shards") / "index.json").read_text())
    for entry in index["shards"]:
        path = built.path("shards") / entry["name"]
        assert path.stat().st_size == entry["bytes"]
        with tarfile.open(path, format=tarfile.USTAR_FORMAT) as tar:
            names = tar.getnames()
        assert [name.rpartition(".")[2] for name in names] == [*SAMPLE_MEMBERS] * entry["samples"]
        assert pq.read_metadata(path.with_suffix(".parquet")).num_rows == entry["samples"]


def test_no_query_keeps_more_than_its_cap(built: Run) -> None:
    cap = built.settings.balance.max_pairs_per_query
    counts = built.read_arrow("coverage").to_pylist()
    assert max(row["kept"] for row in counts) == cap < max(row["matched"] for row in counts)


def test_the_report_tells_every_part_and_shows_its_pictures(built: Run) -> None:
    page = report.write_report(built).read_text(encoding="utf-8")
    for heading in ("Funnel", "Queries", "Query coverage", "Download", "Training", "Scores"):
        assert f"<h2>{heading}</h2>" in page
    assert page.count("<svg") >= 4
    assert page.count("data:image/jpeg;base64,") >= 12
    assert "<script" not in page


def test_the_status_of_a_finished_run_is_ready(
    built: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    status.show(built)
    told = capsys.readouterr().out
    assert "all ready" in told
    assert "missing" not in told


def test_a_stage_is_stale_when_a_setting_of_its_own_changes_and_only_then(built: Run) -> None:
    changed = Run(built.root, built.settings.model_copy(deep=True))
    balance = built.settings.balance.model_copy(update={"seed": 8})
    changed.settings = built.settings.model_copy(update={"balance": balance})
    stale = [stage.verb for stage in walk.STAGES if not stage.is_fresh(changed)]
    assert stale == ["draw", "balance"]
    with_all_that_follows = [stage.verb for stage in walk.stale(changed)]
    assert with_all_that_follows == [stage.verb for stage in walk.STAGES[3:]]
    assert walk.stale(built) == []


def test_a_setting_of_pace_makes_nothing_stale(built: Run) -> None:
    hurried = Run(built.root, built.settings)
    download = built.settings.download.model_copy(update={"threads": 1})
    train = built.settings.train.model_copy(update={"workers": 0})
    hurried.settings = built.settings.model_copy(update={"download": download, "train": train})
    assert walk.stale(hurried) == []


def test_a_stage_is_refused_while_what_it_reads_is_out_of_date(built: Run) -> None:
    changed = Run(built.root, built.settings)
    dedup = built.settings.dedup.model_copy(update={"placeholder_urls": 7})
    changed.settings = built.settings.model_copy(update={"dedup": dedup})
    with pytest.raises(walk.OutOfDate, match="run `wit dedup"):
        walk.one(changed, "balance")


def _until_shards(run: Run) -> None:
    for stage in walk.STAGES[:9]:
        stage.make(run)


def test_other_numbers_of_partitions_give_the_same_bytes(
    built: Run, world: World, tmp_path: Path
) -> None:
    run = Run.open(tmp_path / "other", world.settings, [*SETS, "spark.partitions=7"])
    _until_shards(run)
    assert _shards(run) == _shards(built)


def test_a_build_that_is_killed_halfway_goes_on_to_the_same_bytes(
    built: Run, world: World, tmp_path: Path
) -> None:
    root = tmp_path / "killed"
    words = [f"--set={assignment}" for assignment in [*SETS, "spark.master=local[2]"]]
    command = [sys.executable, "-m", "jobs", "build", "--run", str(root)]
    command += ["--config", str(world.settings), *words]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        images = root / "05_images"
        for _ in range(600):
            if list(images.glob("*_stats.json")) or process.poll() is not None:
                break
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert list(images.glob("*_stats.json")), (tmp_path / "log").read_text()
    assert not (images / "_manifest.json").exists()
    done = {file: file.stat().st_mtime_ns for file in images.glob("*_stats.json")}
    run = Run.open(root, None, [])
    walk.one(run, "download")
    assert {file: file.stat().st_mtime_ns for file in done} == done
    _after_download(run)
    assert _shards(run) == _shards(built)


def _after_download(run: Run) -> None:
    for stage in walk.STAGES[5:9]:
        stage.make(run)
