"""The walk: one small world through every job, as a person runs them."""

import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from small import SMALL

from jobs import follow, planted, report, status, walk
from jobs.run import Run
from jobs.train import VOCABULARY
from jobs.world import World
from pipeline import tokenizer
from pipeline.ingest.links import links_in_wat
from pipeline.schemas import SAMPLE_MEMBERS
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
        "deduped": "images",
        "balanced": "deduped",
        "shards": "balanced",
        "checkpoints": "shards",
        "audit": "overlaps",
    }
    assert {table: came_in[table] for table in before} == {
        table: rows[earlier] for table, earlier in before.items()
    }
    rounds = built.manifest("images")["notes"]["rounds"]
    assert rounds[0]["rows"] == rows["drawn"]
    assert sum(told["rows"] for told in rounds) == came_in["images"]
    for table in rows:
        found = sum(pq.read_metadata(file).num_rows for file in built.files(table))
        if table not in ("checkpoints", "scores"):
            assert found == (came_in[table] if table == "images" else rows[table]), table
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
    passed = ("candidates", "matched", "fingerprints", "deduped", "balanced", "shards")
    for table in passed:
        assert len(rows[table] or []) == 1, table
    assert rows["dropped"] == []

    cutter = tokenizer.load(built.path("checkpoints") / VOCABULARY)
    samples = Samples(built.path("shards"))
    batches = Batches(samples, cutter, batch_size=32, side=32, context=64, seed=0)
    for batch in batches.between(0, 2 * len(samples) // 32, workers=0):
        if pair["pair_id"] in batch.pair_ids:
            tokens = batch.tokens_BL[batch.pair_ids.index(pair["pair_id"])].tolist()
            said = cutter.decode(tokens[1 : tokens.index(cutter.end)])
            assert said.split() == cutter.decode(cutter.encode(pair["caption"])).split()
            return
    pytest.fail("the pair is in no batch of two epochs")


def test_a_pair_that_failed_and_healed_has_a_row_of_each_round(built: Run, world: World) -> None:
    urls = set(world.truth["kinds"]["healing_503"]["urls"])
    tries = built.read_arrow("images", ["pair_id", "url", "round", "reason"]).to_pylist()
    of_healing = [(row["round"], row["reason"]) for row in tries if row["url"] in urls]
    assert sorted(of_healing) == [(1, "server error")] * len(urls) + [(2, None)] * len(urls)
    again = Counter(row["pair_id"] for row in tries)
    arrived = Counter(row["pair_id"] for row in tries if row["reason"] is None)
    assert max(arrived.values()) == 1
    told = built.manifest("images")["dropped"]
    assert told["tried again"] == sum(again.values()) - len(again)
    # What will not heal is asked for once.
    once = {row["pair_id"] for row in tries if row["reason"] in ("not found", "gone")}
    assert {again[pair] for pair in once} == {1}


def test_a_later_round_asks_for_new_pairs_of_queries_that_are_short(
    built: Run, world: World
) -> None:
    cap = built.settings.balance.max_pairs_per_query
    tries = built.read_arrow("images", ["pair_id", "round", "drawn_for"]).to_pylist()
    drawn = set(built.read_arrow("drawn", ["pair_id"])["pair_id"].to_pylist())
    assert {row["pair_id"] for row in tries if row["round"] == 1} == drawn
    new = [row for row in tries if row["pair_id"] not in drawn]
    assert new
    before, reached = built.read_arrow("draws"), built.read_arrow("reached")
    went_on = pc.greater(reached["target"], before["target"]).to_pylist()
    assert all(any(went_on[query] for query in row["drawn_for"]) for row in new)
    # Drawn until it was full, and no further than it had to.
    queries = built.read_arrow("queries", ["query"])["query"].to_pylist()
    crowded = queries.index(world.truth["crowded_word"])
    counts = {row["query_id"]: row for row in built.read_arrow("coverage").to_pylist()}[crowded]
    assert before["drawn"][crowded].as_py() < counts["drawn"] < counts["matched"]
    assert counts["kept"] == cap


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
    assert "round 2</text>" in page
    assert "<th>host</th>" in page
    assert page.count("<svg") >= 5
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
    loader = built.settings.loader.model_copy(update={"workers": 0})
    hurried.settings = built.settings.model_copy(update={"download": download, "loader": loader})
    assert walk.stale(hurried) == []


def test_a_stage_is_refused_while_what_it_reads_is_out_of_date(built: Run) -> None:
    changed = Run(built.root, built.settings)
    dedup = built.settings.dedup.model_copy(update={"pdq_distance": 7})
    changed.settings = built.settings.model_copy(update={"dedup": dedup})
    with pytest.raises(walk.OutOfDate, match="run `wit dedup"):
        walk.one(changed, "balance")


@pytest.fixture(scope="module")
def killed(other: Run, world: World, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that was killed in its first round of downloads, and once more in its second."""
    root = tmp_path_factory.mktemp("killed") / "run"
    images = root / "05_images"
    words = [f"--set={assignment}" for assignment in [*SMALL, "spark.master=local[2]"]]
    _kill(["build", f"--config={world.settings}", *words], root, "05_images/*_stats.json")
    done = _stats(images)
    assert done
    assert not (images / "_manifest.json").exists()
    _kill(["download"], root, "05_images/_round-2/again/*.parquet")
    assert not (images / "_manifest.json").exists()
    assert done.items() <= _stats(images).items()
    run = Run.open(root, None, [])
    walk.one(run, "download")
    assert done.items() <= _stats(images).items()
    return run


def _stats(images: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in images.glob("*_stats.json")}


def _kill(words: list[str], root: Path, sign: str) -> None:
    """Run a command, and kill it when there is a file like `sign`."""
    command = [sys.executable, "-m", "jobs", *words, f"--run={root}"]
    log = root.with_suffix(".log")
    with log.open("ab") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, start_new_session=True)
        for _ in range(1000):
            if list(root.glob(sign)) or process.poll() is not None:
                break
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert list(root.glob(sign)), log.read_text()


def test_kills_and_other_numbers_of_partitions_give_the_same_bytes(killed: Run, other: Run) -> None:
    assert killed.manifest("images")["content"] == other.manifest("images")["content"]
    assert killed.read_arrow("reached").equals(other.read_arrow("reached"))
    for stage in walk.STAGES[5:9]:
        stage.make(killed)
    assert _shards(killed) == _shards(other)


def test_fewer_rounds_keep_what_they_made_and_more_go_on_from_there(killed: Run) -> None:
    def rounds(count: int) -> tuple[list[dict[str, Any]], dict[Path, int]]:
        settings = killed.settings.download.model_copy(update={"rounds": count})
        run = Run(killed.root, killed.settings.model_copy(update={"download": settings}))
        walk.one(run, "download")
        return run.manifest("images")["notes"]["rounds"], _stats(run.path("images"))

    three = killed.manifest("images")["content"]
    of_three = _stats(killed.path("images"))
    told, of_two = rounds(2)
    assert len(told) == 2
    assert of_two.items() < of_three.items()
    assert sum(row["round"] == 3 for row in killed.read_arrow("images", ["round"]).to_pylist()) == 0
    told, again = rounds(3)
    assert len(told) == 3
    assert of_two.items() < again.items()
    assert set(again) == set(of_three)
    assert killed.manifest("images")["content"] == three
