"""pipeline.decisions"""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import decisions
from pipeline.cascade import VERDICTS
from pipeline.decisions import Decisions
from pipeline.errors import BadInput
from pipeline.schemas import OVERLAPS

PAIR = {"pair_id": "p0", "source": "set", "eval_id": "e0", "verdict": "accept"}
GOOD: dict[str, Any] = {
    "format": decisions.FORMAT,
    "audit": "0" * 64,
    "sets": {"set": {"pdq_distance": 40}},
    "pairs": [PAIR],
}


def _table(rows: list[tuple[str, str, str, int, str]]) -> pa.Table:
    full = [(p, s, e, "original", 0, pdq, None, verdict) for p, s, e, pdq, verdict in rows]
    columns = list(map(list, zip(*full, strict=True))) if full else [[] for _ in OVERLAPS]
    return pa.table(columns, schema=OVERLAPS)


def _write(path: Path, told: Any) -> Path:
    path.write_text(told if isinstance(told, str) else json.dumps(told))
    return path


def test_a_file_of_decisions_is_read_as_it_was_exported(tmp_path: Path) -> None:
    read = decisions.read(_write(tmp_path / "d.json", GOOD))
    assert read == Decisions("0" * 64, {"set": 40}, {("p0", "set", "e0"): True})


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ("", "truncated"),
        ("[" * 100_000, "decisions file"),
        ("[]", "array"),
        ({**GOOD, "format": "webimagetext decisions 2"}, "format"),
        ({**GOOD, "audit": "abc"}, "audit"),
        ({**GOOD, "more": 1}, "more"),
        ({**GOOD, "sets": {"set": {"pdq_distance": 257}}}, "pdq_distance"),
        ({**GOOD, "sets": {"set": {"pdq_distance": True}}}, "pdq_distance"),
        ({**GOOD, "sets": {"set": {"pdq_distance": 4.5}}}, "pdq_distance"),
        ({**GOOD, "sets": {"set": {}}}, "pdq_distance"),
        ({**GOOD, "pairs": [{**PAIR, "verdict": "maybe"}]}, "verdict"),
        ({**GOOD, "pairs": [{**PAIR, "pair_id": 7}]}, "pair_id"),
        ({**GOOD, "pairs": [{**PAIR, "pair_id": "p" * 5000}]}, "pair_id"),
        ({**GOOD, "pairs": [{**PAIR, "note": ""}]}, "note"),
        ({**GOOD, "pairs": [PAIR, {**PAIR, "verdict": "reject"}]}, "twice"),
        ({key: GOOD[key] for key in ("format", "audit", "sets")}, "pairs"),
    ],
)
def test_a_file_that_is_not_one_is_refused_and_named(tmp_path: Path, told: Any, why: str) -> None:
    file = _write(tmp_path / "d.json", told)
    with pytest.raises(BadInput, match=why) as error:
        decisions.read(file)
    assert str(file) in str(error.value)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        decisions.read(tmp_path)
    with pytest.raises(BadInput, match=r"none\.json cannot be read"):
        decisions.read(tmp_path / "none.json")
    (tmp_path / "latin.json").write_bytes(json.dumps(GOOD).replace("p0", "\xe9").encode("latin-1"))
    with pytest.raises(BadInput, match="latin"):
        decisions.read(tmp_path / "latin.json")


def test_a_file_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "d.json").open("wb") as stream:
        stream.truncate(1 << 30)  # a hole: it takes no room
    with pytest.raises(BadInput, match="over 67,108,864 bytes"):
        decisions.read(tmp_path / "d.json")


def test_a_persons_word_on_a_pair_outdoes_the_threshold_of_its_set() -> None:
    rows = _table(
        [
            ("p0", "set", "e0", 90, "candidate"),
            ("p1", "set", "e0", 40, "candidate"),
            ("p2", "set", "e0", 41, "overlap"),
            ("p3", "set", "e1", 0, "undecidable"),
            ("p4", "set", "e1", 0, "undecidable"),
            ("p0", "other", "e0", 90, "candidate"),
        ]
    )
    pairs = {("p0", "set", "e0"): True, ("p4", "set", "e1"): True, ("p4", "set", "e9"): True}
    applied = decisions.apply(rows, Decisions("", {"set": 40, "none": 1}, pairs))
    assert list(
        zip(
            applied.rows.column("verdict").to_pylist(),
            applied.rows.column("decided").to_pylist(),
            strict=True,
        )
    ) == [
        ("overlap", "hand"),
        ("overlap", "threshold"),
        ("candidate", "threshold"),
        ("undecidable", None),
        ("overlap", "hand"),
        ("candidate", None),
    ]
    assert applied.changed == 4
    assert applied.found == {("p0", "set", "e0"), ("p4", "set", "e1")}


def test_no_overlaps_can_be_decided_too() -> None:
    applied = decisions.apply(_table([]), decisions.Decisions("", {"set": 3}, {}))
    assert (applied.rows.num_rows, applied.changed) == (0, 0)


_NAMES = st.sampled_from(["a", "b", "c"])
_ROWS = st.lists(
    st.tuples(_NAMES, _NAMES, _NAMES, st.integers(0, 256), st.sampled_from(VERDICTS)),
    unique_by=lambda row: row[:3],
)
_DECISIONS = st.builds(
    Decisions,
    st.just(""),
    st.dictionaries(_NAMES, st.integers(0, 256)),
    st.dictionaries(st.tuples(_NAMES, _NAMES, _NAMES), st.booleans()),
)


@given(_ROWS, _DECISIONS)
def test_batches_are_decided_as_the_whole_is_and_twice_is_once(
    rows: list[tuple[str, str, str, int, str]], taken: Decisions
) -> None:
    table = _table(rows)
    applied = decisions.apply(table, taken).rows.drop_columns("decided")
    batches = decisions.apply_to_batches(iter(table.to_batches(max_chunksize=2)), taken)
    assert pa.Table.from_batches(batches, OVERLAPS).equals(applied)
    assert decisions.apply(applied, taken).changed == 0


def test_the_digest_is_that_of_the_pairs_in_any_order_and_whatever_their_verdict() -> None:
    one, two = ("p0", "set", "e0", 3, "overlap"), ("p1", "set", "e0", 9, "candidate")

    def digest(*parts: list[tuple[str, str, str, int, str]]) -> str:
        return decisions.digest([batch for part in parts for batch in _table(part).to_batches()])

    told = digest([one, two])
    assert digest([(*two[:4], "overlap")], [one]) == told
    assert digest([one, (*two[:3], 10, "candidate")]) != told
    assert digest([one]) != told
    assert digest([one, one]) != digest([one])
    assert digest([("p0", "set", "e1", 3, "overlap"), ("p1", "set", "e1", 9, "candidate")]) != told
