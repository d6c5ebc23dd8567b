"""jobs.run"""

from pathlib import Path

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from jobs.ledger import CountsDisagree, Ledger
from jobs.run import OtherSettings, Run
from pipeline.errors import BadInput, MissingTable
from pipeline.schemas import DEDUPED, DROPPED
from pipeline.settings import Settings

_ROWS = pa.table([["a", "b"], [None, None]], schema=DEDUPED)


def _run(tmp_path: Path) -> Run:
    return Run(tmp_path, Settings())


def test_rows_that_go_missing_stop_the_run(tmp_path: Path) -> None:
    run = _run(tmp_path)
    with run.stage("dedup", {}, {}), pytest.raises(CountsDisagree, match="3 rows came in"):
        run.write_arrow("deduped", _ROWS, Ledger(rows_in=3, rows_out=2))
    assert run.find_manifest("deduped") is None


def test_a_table_without_a_manifest_does_not_exist(tmp_path: Path) -> None:
    run = _run(tmp_path)
    with run.stage("dedup", {}, {}):
        run.write_arrow("deduped", _ROWS, Ledger(2, 2))
    assert run.read_arrow("deduped").equals(_ROWS)
    (run.path("deduped") / "_manifest.json").unlink()
    with pytest.raises(MissingTable, match="run `wit dedup"):
        run.read_arrow("deduped")


def test_what_an_interrupted_stage_left_is_kept_only_for_the_same_inputs(tmp_path: Path) -> None:
    run = _run(tmp_path)
    for digest, is_kept in (("1", False), ("1", True), ("2", False)):
        with run.stage("download", {}, {"drawn": digest}):
            folder = run.begin("images", resume=True)
            assert (folder / "00000.tar").exists() == is_kept
            (folder / "00000.tar").write_bytes(b"half")


def test_a_stage_that_is_asked_for_more_goes_on_from_what_it_has_made(tmp_path: Path) -> None:
    run = _run(tmp_path)
    further = frozenset({"download.rounds"})

    def is_kept(rounds: int, side: int = 256, *, finish: bool) -> bool:
        settings = {"download": {"rounds": rounds, "image_side": side}}
        with run.stage("download", settings, {"table drawn": "1"}, further=further):
            folder = run.begin("images", resume=True)
            assert run.find_manifest("images") is None
            was_there = (folder / "00000.tar").exists()
            (folder / "00000.tar").write_bytes(b"whole")
            if finish:
                run.finish("images", Ledger(1, 1))
        return was_there

    assert not is_kept(3, finish=True)
    assert is_kept(4, finish=False)
    assert is_kept(4, finish=True)
    assert is_kept(2, finish=False)
    assert not is_kept(2, side=224, finish=False)
    assert not is_kept(2, finish=True)
    # And whole again of a run that was killed between its note and its manifest's end.
    manifest = (run.path("images") / "_manifest.json").read_text()
    assert is_kept(5, finish=False)
    (run.path("images") / "_manifest.json").write_text(manifest)
    assert is_kept(5, finish=False)


def test_the_digest_of_a_table_is_that_of_its_making_and_not_of_its_time(tmp_path: Path) -> None:
    run, digests = _run(tmp_path), []
    for inputs in ({"a": "1"}, {"a": "1"}, {"a": "2"}):
        with run.stage("dedup", {}, inputs):
            run.write_arrow("deduped", _ROWS, Ledger(2, 2))
        digests.append(run.manifest("deduped")["digest"])
    assert digests[0] == digests[1] != digests[2]


def test_drops_are_counted_by_reason_while_the_table_is_written(
    spark: SparkSession, tmp_path: Path
) -> None:
    run = _run(tmp_path)
    rows = [("a", None, 3), ("b", None, 1), ("c", "bad", 1), ("d", "bad", 4), ("e", "new", 1)]
    frame = spark.createDataFrame(
        [(name, None, reason, count) for name, reason, count in rows],
        "pair_id string, alternatives array<string>, dropped_for string, rows long",
    )
    with run.stage("dedup", {}, {}):
        run.write("deduped", frame, reasons=("bad", "never"))
    manifest = run.manifest("deduped")
    assert manifest["dropped"] == {"bad": 5, "duplicate": 2, "unnamed reason": 1}
    assert (manifest["rows_in"], manifest["rows"]) == (10, 2)
    assert sorted(row.pair_id for row in run.read("deduped").collect()) == ["a", "b"]


def test_a_table_of_findings_may_be_empty_and_is_a_table(
    spark: SparkSession, tmp_path: Path
) -> None:
    run = _run(tmp_path)
    names = ", ".join(f"{name} string" for name in DROPPED.names[:-2])
    with run.stage("dedup", {}, {}):
        run.write(
            "dropped", spark.createDataFrame([], f"{names}, phash_distance int, pdq_distance int")
        )
    assert run.read("dropped").count() == 0
    assert run.read_arrow("dropped").num_rows == 0


def test_a_stage_that_leaves_nothing_stops_and_says_why(tmp_path: Path) -> None:
    run = _run(tmp_path)
    nothing = _ROWS.slice(0, 0)
    with (
        run.stage("dedup", {}, {}),
        pytest.raises(BadInput, match=r"none of 3 rows is left \(no url 3\)"),
    ):
        run.write_arrow("deduped", nothing, Ledger(3, 0, {"no url": 3}))
    assert run.find_manifest("deduped") is None


def test_a_run_of_other_settings_is_not_taken_up_unasked(tmp_path: Path) -> None:
    config, root = tmp_path / "a.toml", tmp_path / "run"
    config.write_text("[balance]\nseed = 1")
    Run.open(root, config, ["balance.seed=3"])
    run = Run.open(root, config, [])  # nothing was made with the first ones
    assert Run.open(root, None, []).settings.balance.seed == 1
    with run.stage("dedup", {}, {}):
        run.write_arrow("deduped", _ROWS, Ledger(2, 2))
    with pytest.raises(OtherSettings, match=r"balance\.seed.*--update"):
        Run.open(root, config, ["balance.seed=2"])
    assert Run.open(root, config, ["balance.seed=2"], update=True).settings.balance.seed == 2
    assert Run.open(root, None, []).settings.balance.seed == 2


def test_a_folder_that_is_no_run_says_how_to_begin_one(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="wit build --config"):
        Run.open(tmp_path / "none", None, [])


@pytest.mark.parametrize("sign", "*?[")
def test_a_run_whose_address_is_a_pattern_is_refused(tmp_path: Path, sign: str) -> None:
    (config := tmp_path / "config.toml").touch()
    with pytest.raises(BadInput, match="which stores take for a pattern: name another address"):
        Run.open(f"s3://bucket/runs/one{sign}", config, [])
    Run.open(tmp_path / f"one{sign}", config, [])


def test_a_run_where_a_file_lies_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "a.toml").write_text("")
    with pytest.raises(BadInput, match="name another folder"):
        Run.open(tmp_path / "file" / "run", tmp_path / "a.toml", [])
    with pytest.raises(BadInput, match="name another folder"):
        Run.open(tmp_path / "file", tmp_path / "a.toml", [])
