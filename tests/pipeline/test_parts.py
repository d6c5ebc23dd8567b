"""pipeline.parts"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from pipeline import parts
from pipeline.errors import BadInput
from pipeline.parts import Part, Tally

_SCHEMA = pa.schema([pa.field("number", pa.int64(), nullable=False), pa.field("name", pa.string())])


def _table(first: int, rows: int) -> pa.Table:
    numbers = list(range(first, first + rows))
    return pa.table([numbers, [f"name {n}" for n in numbers]], schema=_SCHEMA)


def _file(path: Path, rows: int, group: int, first: int = 0) -> Path:
    pq.write_table(_table(first, rows), path, row_group_size=group)
    return path


def _numbers(todo: list[Part]) -> list[int]:
    return [
        number
        for part in todo
        for batch in parts.read(part, ["number"])
        for number in batch.column("number").to_pylist()
    ]


def test_parts_are_cut_at_row_groups_and_hold_every_row_once_in_order(tmp_path: Path) -> None:
    files = [_file(tmp_path / "a", 25, 10), _file(tmp_path / "b", 7, 10, first=25)]
    todo = parts.parts(files, rows=20)
    assert todo == [
        Part(0, str(files[0]), 0, 2),
        Part(1, str(files[0]), 2, 3),
        Part(2, str(files[1]), 0, 1),
    ]
    assert _numbers(todo) == list(range(32))
    assert _numbers(parts.parts(files, rows=1)) == list(range(32))


def test_a_file_without_rows_is_read_as_none(tmp_path: Path) -> None:
    todo = parts.parts([_file(tmp_path / "empty", 0, 1), _file(tmp_path / "one", 1, 1)])
    assert _numbers(todo) == [0]
    assert [part.number for part in todo] == list(range(len(todo)))


@pytest.mark.parametrize("spoil", [lambda raw: raw[:-5], lambda raw: b"", lambda raw: b"no" * 99])
def test_a_file_that_is_no_whole_parquet_is_named(tmp_path: Path, spoil: object) -> None:
    raw = _file(tmp_path / "whole", 9, 3).read_bytes()
    (tmp_path / "broken").write_bytes(spoil(raw))  # type: ignore[operator]
    with pytest.raises(BadInput, match="broken is not a whole parquet file"):
        parts.parts([tmp_path / "whole", tmp_path / "broken"])
    with pytest.raises(BadInput, match="missing is not a whole parquet file"):
        parts.parts([tmp_path / "missing"])


def _batches(sizes: list[int]) -> Iterator[pa.RecordBatch]:
    for first, stop in pairwise(np.cumsum([0, *sizes]).tolist()):
        (batch,) = _table(first, stop - first).to_batches() or [
            pa.RecordBatch.from_pylist([], schema=_SCHEMA)
        ]
        yield batch


@given(st.lists(st.integers(0, 9), max_size=9))
def test_what_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("part")
    assert parts.write(str(folder), 3, _SCHEMA, _batches(sizes)) == sum(sizes)
    (file,) = folder.iterdir()
    assert file.name == "part-000003.parquet"
    assert pq.read_table(file).equals(_table(0, sum(sizes)))
    assert pq.read_table(file).schema == _SCHEMA


def test_small_batches_make_row_groups_that_a_part_can_be_cut_at(tmp_path: Path) -> None:
    parts.write(str(tmp_path), 0, _SCHEMA, _batches([100] * 4000))
    file = tmp_path / "part-000000.parquet"
    footer = pq.read_metadata(file)
    groups = [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]
    assert 1 < len(groups) < 10
    assert min(groups[:-1]) > 100_000
    assert len(parts.parts([file], rows=1)) == len(groups)


def test_a_writer_that_fails_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    def failing() -> Iterator[pa.RecordBatch]:
        yield from _batches([200_000])
        raise OSError("the disk is gone")

    parts.write(str(tmp_path), 0, _SCHEMA, _batches([5]))
    before = (tmp_path / "part-000000.parquet").read_bytes()
    with pytest.raises(OSError, match="the disk is gone"):
        parts.write(str(tmp_path), 0, _SCHEMA, failing())
    assert [file.name for file in tmp_path.iterdir()] == ["part-000000.parquet"]
    assert (tmp_path / "part-000000.parquet").read_bytes() == before


def test_a_null_where_the_schema_has_none_is_no_file(tmp_path: Path) -> None:
    nullable = pa.schema([pa.field("number", pa.int64()), pa.field("name", pa.string())])
    batch = pa.RecordBatch.from_pylist([{"number": None, "name": "x"}], schema=nullable)
    with pytest.raises((pa.ArrowInvalid, ValueError)):
        parts.write(str(tmp_path), 0, _SCHEMA, [batch])
    assert list(tmp_path.iterdir()) == []


def test_what_killed_writers_left_is_cleared_and_nothing_else(tmp_path: Path) -> None:
    for name in (".part-000001.0a", "part-000001.parquet", "_manifest.json"):
        (tmp_path / name).write_text("")
    parts.clear_staged(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "_manifest.json",
        "part-000001.parquet",
    ]


def test_two_who_clear_a_folder_at_a_time_do_not_stumble_over_each_other(tmp_path: Path) -> None:
    for number in range(3000):
        (tmp_path / f".part-{number}").touch()
    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(parts.clear_staged, [tmp_path] * 4):
            pass
    assert list(tmp_path.iterdir()) == []


def test_two_attempts_of_one_task_at_a_time_leave_one_whole_file(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        for rows in pool.map(
            lambda _: parts.write(str(tmp_path), 0, _SCHEMA, _batches([1000] * 300)), range(4)
        ):
            assert rows == 300_000
    assert [file.name for file in tmp_path.iterdir()] == ["part-000000.parquet"]
    assert pq.read_table(tmp_path / "part-000000.parquet").equals(_table(0, 300_000))


def test_long_captions_make_row_groups_of_fewer_rows(tmp_path: Path) -> None:
    letters = pa.py_buffer(b"a" * (1 << 25))
    bounds = pa.py_buffer(np.array([0, 1 << 25], np.int32))
    name = pa.StringArray.from_buffers(1, bounds, letters)
    batch = pa.RecordBatch.from_arrays([pa.array([7]), name], schema=_SCHEMA)
    parts.write(str(tmp_path), 0, _SCHEMA, [batch] * 20)
    footer = pq.read_metadata(tmp_path / "part-000000.parquet")
    assert [footer.row_group(group).num_rows for group in range(footer.num_row_groups)] == [8, 8, 4]


def test_a_tally_counts_every_query_of_a_long_list(spark: SparkSession, tmp_path: Path) -> None:
    todo = parts.parts([_file(tmp_path / "table", 40, 4)], rows=8)
    queries = 10_001

    def work(part: Part) -> Tally:
        per_query = np.zeros(queries, np.int64)
        per_query[part.number :: 7] = 1 + part.number
        return Tally({f"part {part.number}": 2**40, "all": 1, "none": 0}, per_query)

    told = parts.tally(spark, todo, work, queries)
    tallies = [work(part) for part in todo]
    assert told.per_query.tolist() == sum(tally.per_query for tally in tallies).tolist()
    assert told.counts == {"all": 5, "none": 0, **{f"part {n}": 2**40 for n in range(5)}}


def test_a_tally_is_the_sum_of_all_parts_and_their_files_do_not_depend_on_who_writes(
    spark: SparkSession, tmp_path: Path
) -> None:
    file = _file(tmp_path / "table", 40, 4)
    todo, schema = parts.parts([file], rows=8), _SCHEMA

    def work(part: Part, folder: str) -> Tally:
        per_query = np.zeros(6, np.int64)
        rows = parts.write(folder, part.number, schema, parts.read(part))
        for batch in parts.read(part, ["number"]):
            np.add.at(per_query, batch.column("number").to_numpy() % 5, 1)
        return Tally({"rows": rows, "even": 0}, per_query)

    for name in ("spark", "alone"):
        (tmp_path / name).mkdir()
    spread = str(tmp_path / "spark")
    told = parts.tally(spark, todo, lambda part: work(part, spread), 6)
    for part in todo[::-1]:
        work(part, str(tmp_path / "alone"))
    assert told.counts == {"even": 0, "rows": 40}
    assert told.per_query.tolist() == [8, 8, 8, 8, 8, 0]
    files = [
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("spark", "alone")
    ]
    assert files[0] == files[1]
    assert len(files[0]) == 5
    none = parts.tally(spark, [], lambda part: work(part, spread), 6)
    assert (none.counts, none.per_query.tolist()) == ({}, [0] * 6)
