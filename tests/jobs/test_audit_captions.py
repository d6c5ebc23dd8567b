"""jobs.audit_captions"""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from jobs import audit_captions
from jobs.ledger import Ledger
from jobs.run import Run
from pipeline.errors import BadInput
from pipeline.schemas import SHARDED
from pipeline.settings import EvalSet


def _shards(captions: list[str]) -> pa.Table:
    """The shards of a run, of which only names and captions matter here."""
    zero: dict[Any, Any] = {pa.string(): "", pa.int32(): 0, pa.int64(): 0}
    rows = [
        {field.name: zero.get(field.type, []) for field in SHARDED if not field.nullable}
        | {"pair_id": f"p{number}", "caption": caption}
        for number, caption in enumerate(captions)
    ]
    return pa.Table.from_pylist(rows, SHARDED)


def test_the_captions_of_a_runs_shards_are_searched(spark: SparkSession, tmp_path: Path) -> None:
    table = tmp_path / "eval.csv"
    table.write_text("id,caption,image\nc0,a red dog runs home,1.jpg\nc1,nobody,2.jpg\n")
    config = tmp_path / "run.toml"
    config.write_text(
        f'[[evalsets]]\nname = "set"\npath = "{tmp_path}"\ncaptions = "{table}"\n'
        "[spark]\npartitions = 2\n"
    )
    run = Run.open(tmp_path / "run", config, [])
    with run.stage("shard", {}, {}):
        run.write_arrow("shards", _shards(["A red dog runs home.", "other"]), Ledger(2, 2))
    with run.stage("audit", {}, {}):
        folder = run.begin("audit")
        (told,) = audit_captions.of_run(run, folder)
    assert (told["name"], told["captions"], told["found"]) == ("set", 2, 1)
    assert told["corpus_captions"] == 2
    found = pq.read_table(folder / "_captions" / audit_captions.FOUND).to_pylist()
    assert [(row["eval_id"], row["pair_id"]) for row in found] == [("c0", "p0")]


def test_the_captions_of_a_set_come_from_its_table_or_its_tars(tmp_path: Path) -> None:
    set_of_images = EvalSet(name="images", path=str(tmp_path))
    assert audit_captions.of_evaluation([set_of_images]).captions == []
    missing = EvalSet(name="set", path=str(tmp_path), captions=str(tmp_path / "no.csv"))
    with pytest.raises(BadInput, match=r"evalsets\.set: .*no\.csv does not exist"):
        audit_captions.of_evaluation([missing])
