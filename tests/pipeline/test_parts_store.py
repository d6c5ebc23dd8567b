"""pipeline.parts and pipeline.parquet_files, in a store."""

import gc
import os
import tracemalloc
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import parquet_files, parts, storage
from pipeline.errors import BadInput
from pipeline.storage import Place
from tests.s3_server import BUCKET, S3Server

_SCHEMA = pa.schema(
    [
        pa.field("number", pa.int64(), nullable=False),
        pa.field("name", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("of", pa.list_(pa.int32())),
    ]
)


def _rows(first: int, count: int) -> pa.Table:
    numbers = list(range(first, first + count))
    reasons = [None if n % 3 else "small" for n in numbers]
    names = [f"{n} " * (n % 40) for n in numbers]
    return pa.table([numbers, names, reasons, [[n] * (n % 4) for n in numbers]], schema=_SCHEMA)


def _folder() -> Place:
    return storage.place(f"s3://{BUCKET}/{uuid4().hex}")


_TABLES = st.lists(st.tuples(st.integers(0, 400), st.integers(1, 90)), min_size=1, max_size=4)
_COLUMNS = st.none() | st.lists(st.sampled_from(_SCHEMA.names), min_size=1, unique=True)


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(tables=_TABLES, rows=st.integers(30, 300), columns=_COLUMNS, tail=st.integers(1, 1 << 16))
def test_a_table_is_cut_read_and_written_in_a_store_as_on_a_disk(
    s3: S3Server,
    tmp_path_factory: pytest.TempPathFactory,
    tables: list[tuple[int, int]],
    rows: int,
    columns: list[str] | None,
    tail: int,
) -> None:
    disk, store = tmp_path_factory.mktemp("table"), _folder()
    for number, (count, group) in enumerate(tables):
        pq.write_table(_rows(1000 * number, count), disk / f"{number}", row_group_size=group)
        storage.put(store / f"{number}", (disk / f"{number}").read_bytes())
    there = [parts.parts(storage.files(folder), rows) for folder in (disk, store)]
    assert [part._replace(path="") for part in there[0]] == [
        part._replace(path="") for part in there[1]
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet_files, "_TAIL_BYTES", tail)
        for on_disk, in_store in zip(*there, strict=True):
            expected = [batch.to_pylist() for batch in parts.read(on_disk, columns)]
            assert [batch.to_pylist() for batch in parts.read(in_store, columns)] == expected
            for part, folder in ((on_disk, disk / "out"), (in_store, store / "out")):
                storage.make_folder(folder)
                parts.write(str(folder), part.number, _SCHEMA, parts.read(part))
    for file in storage.files(disk / "out"):
        assert storage.read(store / "out" / file.name) == storage.read(file)
    files = storage.files(store / "out")
    assert parquet_files.rows(files) == sum(count for count, _ in tables)
    small = parquet_files.dataset(files, _SCHEMA).to_table(filter=pc.field("reason") == "small")
    rows_of = [1000 * number + n for number, (count, _) in enumerate(tables) for n in range(count)]
    assert small["number"].to_pylist() == [number for number in rows_of if number % 3 == 0]


def test_a_row_group_is_fetched_at_once_and_others_are_not(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(parquet_files, "_TAIL_BYTES", 1 << 16)
    pq.write_table(_rows(0, 60_000), tmp_path / "table", row_group_size=20_000)
    store = _folder()
    storage.put_file(tmp_path / "table", store / "table")
    todo = parts.parts([store / "table"], rows=20_000)
    assert len(todo) == 3
    s3.asked.clear()
    assert sum(batch.num_rows for batch in parts.read(todo[0])) == 20_000
    assert [method for method, _ in s3.asked].count("GET") == 2  # the footer, and the group


@pytest.mark.parametrize("is_ahead", [True, False])
def test_a_dataset_holds_little_of_files_that_are_read(
    s3: S3Server, tmp_path: Path, *, is_ahead: bool
) -> None:
    store, texts = _folder(), [os.urandom(1000).hex() for _ in range(200)]
    pq.write_table(pa.table({"name": texts}), tmp_path / "table", compression="none")
    file_bytes = (tmp_path / "table").stat().st_size
    for number in range(40):
        storage.put(store / f"{number:02}", (tmp_path / "table").read_bytes())
    files = storage.files(store)
    s3.asked.clear()
    tracemalloc.start()
    try:
        read = parquet_files.dataset(files)
        ahead = {} if is_ahead else {"batch_readahead": 2, "fragment_readahead": 1}
        assert sum(batch.num_rows for batch in read.to_batches(**ahead)) == 40 * 200
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 12 * file_bytes
    assert [method for method, _ in s3.asked].count("GET") == 40


def test_a_file_in_a_store_that_is_no_whole_parquet_is_named(s3: S3Server, tmp_path: Path) -> None:
    pq.write_table(_rows(0, 9), tmp_path / "whole")
    store = _folder()
    for name, cut in (("broken", -5), ("empty", 0)):
        storage.put(store / name, (tmp_path / "whole").read_bytes()[:cut])
        with pytest.raises(BadInput, match=f"{name} is not a whole parquet file"):
            parts.parts([store / name])
    with pytest.raises(BadInput, match="missing is not a whole parquet file"):
        parts.parts([store / "missing"])


def test_the_server_of_the_tests_sees_copies(s3: S3Server) -> None:
    store = _folder()
    storage.put(store / "one", b"x")
    store.fs.copy((store / "one").path, (store / "two").path)
    assert "COPY" in [method for method, _ in s3.asked]


def test_a_write_that_fails_leaves_what_was_there(s3: S3Server) -> None:
    store = _folder()
    (first,), (other,) = _rows(0, 5).to_batches(), _rows(9, 7).to_batches()
    parts.write(str(store), 0, _SCHEMA, [first])
    before = storage.read(store / "part-000000.parquet")
    s3.refuse(None, 403, "AccessDenied", lambda method, path: method == "PUT")
    with pytest.raises(BadInput, match="access is denied"):
        parts.write(str(store), 0, _SCHEMA, [other])
    s3.faults.clear()
    assert storage.read(store / "part-000000.parquet") == before
    assert len(storage.files(store)) == 1
