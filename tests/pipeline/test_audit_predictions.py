"""pipeline.audit.predictions"""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.audit.predictions import REASONS, read
from pipeline.errors import BadInput

KNOWN = {"birds": {"e0", "e1", "e2"}, "cars": {"e0"}}
ONE = {"birds": {"e0", "e1", "e2"}}


def test_predictions_are_read_from_csv_json_lines_and_parquet_alike(tmp_path: Path) -> None:
    rows = [("birds", "e0", True), ("birds", "e1", False), ("cars", "e0", True)]
    columns = list(map(list, zip(*rows, strict=True)))
    pq.write_table(pa.table(columns, ["source", "image", "correct"]), tmp_path / "p.parquet")
    lines = "".join(f"{s},{e},{'TRUE' if right else '0'}\n" for s, e, right in rows)
    (tmp_path / "p.csv").write_text(f"\ufeffevalset,eval_id,correct\n{lines}")
    json_rows = [{"evalset": s, "eval_id": e, "correct": int(right)} for s, e, right in rows]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, json_rows)))
    right = {("model", "birds"): {"e0": True, "e1": False}, ("model", "cars"): {"e0": True}}
    for name in ("p.csv", "p.jsonl", "p.parquet"):
        assert read([str(tmp_path / name)], KNOWN).right == right, name


def test_a_prediction_is_right_when_it_is_the_label_whatever_their_types(tmp_path: Path) -> None:
    table = {
        "eval_id": ["e0", "e1", "e2"],
        "prediction": pa.array([3, 4, None], pa.float64()),
        "label": pa.array([3, 5, 6], pa.int8()),
        "model": ["m", "m", "m"],
    }
    pq.write_table(pa.table(table), tmp_path / "p.parquet")
    found = read([str(tmp_path / "p.parquet")], ONE)
    assert found.right == {("m", "birds"): {"e0": True, "e1": False}}
    assert found.refused == {"neither right nor wrong": 1}


def test_rows_that_do_not_fit_are_counted_with_their_reason(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(
        "evalset,eval_id,correct\n"
        "birds,e0,1\nbirds,e0,0\nbirds,e9,1\nplanes,e0,1\nbirds,e1,maybe\nbirds,,1\nbirds,e2\n"
    )
    found = read([str(tmp_path / "p.csv")], KNOWN)
    assert found.right == {("model", "birds"): {"e0": True}}
    assert dict(found.refused) == dict.fromkeys(REASONS, 1)
    assert found.rows == 1 + sum(found.refused.values())
    assert found.examples["unknown image"] == ["p.csv, row 3"]


def test_broken_rows_cost_themselves_alone(tmp_path: Path) -> None:
    good = b'{"eval_id": "e0", "correct": true}\n'
    bad = b'\n{"eval_id": \n[1]\n"\xff"\n' + b"[" * 5000 + b"\n" + b'"' + b"x" * 3_000_000 + b"\n"
    (tmp_path / "p.jsonl").write_bytes(bad + good)
    found = read([str(tmp_path / "p.jsonl")], ONE)
    assert found.right == {("model", "birds"): {"e0": True}}
    # The last of them is cut into three.
    assert found.refused == {"unreadable row": 7}
    quoted = b'eval_id,correct\ne1,"' + b"x" * 140_000 + b'"\ne0,1\n\xff\xfe,1\n'
    (tmp_path / "p.csv").write_bytes(quoted)
    assert read([str(tmp_path / "p.csv")], ONE).right == {("model", "birds"): {"e0": True}}


def test_a_set_must_be_named_where_there_are_several(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("eval_id,correct\ne0,1\n")
    assert read([str(tmp_path / "p.csv")], ONE).right
    with pytest.raises(BadInput, match=r"no prediction fits \(unknown set 1\).*birds, cars"):
        read([str(tmp_path / "p.csv")], KNOWN)


@pytest.mark.parametrize(
    ("name", "body", "why"),
    [
        ("p.csv", b"", "columns none"),
        ("p.csv", b"eval_id,score\ne0,1\n", "eval_id, score"),
        ("p.csv", b"eval_id,correct\n", "no row"),
        ("p.jsonl", b"", "no row"),
        ("p.parquet", b"PAR1", "is broken"),
        ("p.pickle", b"cos\nsystem\n", r"\.csv, \.jsonl"),
    ],
)
def test_a_file_without_predictions_is_refused_and_named(
    tmp_path: Path, name: str, body: bytes, why: str
) -> None:
    (tmp_path / name).write_bytes(body)
    with pytest.raises(BadInput, match=why) as error:
        read([str(tmp_path / name)], ONE)
    assert name in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none\.csv cannot be read"):
        read([str(tmp_path / "none.csv")], ONE)
