"""pipeline.places"""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tars import largest_file

from pipeline import places
from pipeline.schemas import PLACES

_TAR_BYTES = 100_000


def _rows(count: int = 3, **columns: list[Any]) -> pa.Table:
    given = {
        "key": [f"{number:032x}" for number in range(count)],
        "image": [512 + 2000 * number for number in range(count)],
        "image_bytes": [700] * count,
        "caption": [1500 + 2000 * number for number in range(count)],
        "caption_bytes": [20] * count,
        "in_json": [False] * count,
    }
    return pa.table(given | columns, schema=PLACES)


def _written(path: Path, rows: pa.Table) -> bytes:
    places.write(path, rows, _TAR_BYTES, {})
    return path.read_bytes()


def _by_hand(path: Path, table: pa.Table, note: object) -> None:
    """A file of any columns and any note."""
    metadata = {b"places": note if isinstance(note, bytes) else json.dumps(note).encode()}
    table = table.replace_schema_metadata(metadata)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as out:
        out.write_table(table)


_NOTE = {"version": 1, "tar_bytes": _TAR_BYTES, "lost": {}}


def test_what_was_written_is_read_and_nothing_staged_is_left(tmp_path: Path) -> None:
    path = tmp_path / "0.places"
    places.write(path, _rows(), _TAR_BYTES, {"no caption": 2})
    found = places.read(path, _TAR_BYTES)
    assert len(found) == 3
    assert found.keys.to_pylist() == _rows()["key"].to_pylist()
    assert found.image.tolist() == [512, 2512, 4512]
    assert (found.tar_bytes, found.lost) == (_TAR_BYTES, {"no caption": 2})
    assert list(tmp_path.iterdir()) == [path]


def test_a_shard_without_a_sample_has_places_too(tmp_path: Path) -> None:
    places.write(tmp_path / "0.places", _rows(0), 10_240, {})
    assert len(places.read(tmp_path / "0.places", 10_240)) == 0


def test_the_same_rows_are_the_same_bytes_in_whatever_parts_they_come(tmp_path: Path) -> None:
    rows = _rows(9)
    parts = pa.concat_tables([rows.slice(0, 2), rows.slice(2, 6), rows.slice(8)])
    whole = _written(tmp_path / "whole.places", rows)
    assert _written(tmp_path / "parts.places", parts) == whole
    assert _written(tmp_path / "sliced.places", _rows(20).slice(0, 9)) == whole


def test_places_of_a_tar_of_another_length_are_unfit(tmp_path: Path) -> None:
    places.write(tmp_path / "0.places", _rows(), _TAR_BYTES, {})
    with pytest.raises(places.Unfit, match="of a shard of 100,000 bytes, not 100,001"):
        places.read(tmp_path / "0.places", _TAR_BYTES + 1)


@pytest.mark.parametrize("kind", ["image", "caption"])
@pytest.mark.parametrize(
    ("begin", "size"),
    [
        (-1, 10),
        (0, -1),
        (_TAR_BYTES - 9, 10),
        (_TAR_BYTES + 1, 0),
        (2**63 - 1, 1),
        (2**63 - 1, 2**63 - 1),
        (1, 2**63 - 1),
        (-(2**63), -(2**63)),
    ],
)
def test_places_beyond_the_tar_are_unfit(kind: str, begin: int, size: int, tmp_path: Path) -> None:
    beyond = {kind: [0, begin, 0], f"{kind}_bytes": [0, size, 0]}
    places.write(tmp_path / "0.places", _rows(**beyond), _TAR_BYTES, {})
    with pytest.raises(places.Unfit, match="beyond its shard"):
        places.read(tmp_path / "0.places", _TAR_BYTES)


@pytest.mark.parametrize(
    "note",
    [
        _NOTE | {"version": 2},
        {"version": 1},
        [],
        b"",
        b"\xff",
        b'{"version": 1, "tar_bytes": 1e999, "lost": {}}',
        _NOTE | {"lost": {"no caption": "many"}},
        b"[" * 100_000,
    ],
)
def test_a_file_that_tells_another_thing_of_itself_is_unfit(note: object, tmp_path: Path) -> None:
    _by_hand(tmp_path / "0.places", _rows(), note)
    with pytest.raises(places.Unfit):
        places.read(tmp_path / "0.places", _TAR_BYTES)


@pytest.mark.parametrize(
    "columns",
    [
        {"image": pa.array(["a", "b", "c"])},
        {"image": pa.array([1, None, 3])},
        {"key": pa.array([None, "a", "b"])},
        {"caption": pa.nulls(3)},
        {"in_json": None},
    ],
)
def test_other_columns_and_rows_without_a_place_are_unfit(
    columns: dict[str, pa.Array | None], tmp_path: Path
) -> None:
    given = {name: _rows()[name] for name in PLACES.names} | columns
    table = pa.table({name: column for name, column in given.items() if column is not None})
    _by_hand(tmp_path / "0.places", table, _NOTE)
    with pytest.raises(places.Unfit):
        places.read(tmp_path / "0.places", _TAR_BYTES)


@pytest.mark.parametrize("content", [b"", b"ARROW1", b"ARROW1\0\0" * 100, b"<html>" * 1000])
def test_a_file_of_another_kind_is_unfit(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "0.places").write_bytes(content)
    with pytest.raises(places.Unfit, match="holds no places"):
        places.read(tmp_path / "0.places", _TAR_BYTES)


def test_a_missing_file_is_not_taken_for_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        places.read(tmp_path / "0.places", _TAR_BYTES)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    path = tmp_path_factory.mktemp("places") / "0.places"
    return path, _written(path, _rows(40))


@given(share=st.floats(0, 1, exclude_max=True))
@settings(deadline=None)
def test_a_file_that_breaks_off_is_unfit(share: float, whole: tuple[Path, bytes]) -> None:
    path, content = whole
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(places.Unfit):
        places.read(path, _TAR_BYTES)


_LIES = st.one_of(
    st.binary(min_size=1, max_size=1),
    st.sampled_from([2**31, 2**31 - 1, 2**62, 2**63 - 1]).map(lambda n: n.to_bytes(8, "little")),
    st.just(b"\xff" * 8),
)


@given(lies=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), _LIES), min_size=1, max_size=4))
@settings(deadline=None, max_examples=300)
def test_overwritten_bytes_lead_nowhere_outside_the_tar(
    lies: list[tuple[float, bytes]], whole: tuple[Path, bytes]
) -> None:
    """Lengths that are lies among them, and offsets that overflow."""
    path, content = whole
    changed = bytearray(content)
    for share, lie in lies:
        at = int(share * len(content))
        changed[at : at + len(lie)] = lie
    path.write_bytes(changed)
    try:
        found = places.read(path, _TAR_BYTES)
    except places.Unfit:
        return
    assert len(found.keys.to_pylist()) == len(found.image) == len(found.caption_bytes)
    for begin, size in ((found.image, found.image_bytes), (found.caption, found.caption_bytes)):
        assert all(0 <= at <= at + n <= _TAR_BYTES for at, n in zip(begin, size, strict=True))


def test_a_full_disk_leaves_nothing_and_is_told_by_its_number(tmp_path: Path) -> None:
    with largest_file(1000), pytest.raises(OSError, match="File too large") as error:
        places.write(tmp_path / "0.places", _rows(), _TAR_BYTES, {})
    assert error.value.errno is not None
    assert list(tmp_path.iterdir()) == []
