"""pipeline.captions"""

import gzip
import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import tars
from pipeline.captions import Caption, read
from pipeline.errors import BadInput


def _read(path: Path, groups: range | None = None) -> tuple[list[tuple[str, ...]], dict[str, int]]:
    unread: Counter[str] = Counter()
    found = [tuple(caption) for caption in read(path, unread, groups)]
    return found, dict(unread)


def test_a_parquet_is_read_whole_or_by_its_row_groups(tmp_path: Path) -> None:
    table = pa.table(
        {
            "image": [{"bytes": b"png"}] * 3,
            "text": ["a", None, "c"],
            "filename": ["1.jpg", "2.jpg", "3.jpg"],
        }
    )
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, row_group_size=1)
    assert _read(path) == (
        [("a.parquet#0", "a", "1.jpg"), ("a.parquet#2", "c", "3.jpg")],
        {"a row without a caption": 1},
    )
    assert _read(path, range(2, 3))[0] == [("a.parquet#2", "c", "3.jpg")]


def test_several_captions_of_one_row_are_several(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"captions": [["a", "b"]], "id": [7]}), path)
    assert _read(path)[0] == [("7.0", "a", None), ("7.1", "b", None)]


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", 'id,caption\n1,"two\ndogs, red"\n2,b\n'),
        ("a.tsv", 'id\tcaption\n1\t"two\ndogs, red"\n2\tb\n'),
        ("a.jsonl", '{"id": 1, "caption": "two\\ndogs, red"}\n{"id": 2, "caption": "b"}\n'),
        (
            "a.json",
            '{"annotations": [{"id": 1, "caption": "two\\ndogs, red"},\n'
            '{"id": 2, "caption": "b"}]}',
        ),
        ("a.json", '[{"id": 1, "caption": "two\\ndogs, red"},\n{"id": 2, "caption": "b"}]'),
    ],
)
def test_tables_of_text_are_read_plain_and_packed(
    tmp_path: Path, name: str, text: str, *, pack: bool
) -> None:
    path = tmp_path / (f"{name}.gz" if pack else name)
    path.write_bytes(gzip.compress(text.encode()) if pack else text.encode())
    assert _read(path) == ([("1", "two\ndogs, red", None), ("2", "b", None)], {})


def test_rows_that_are_none_are_counted_and_the_others_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lines = [b'{"id": 1, "caption": "a"}', b'{"id": 2, "cap', b"7", b"[" * 9999, b""]
    path.write_bytes(
        b"\n".join([*lines, b'{"id": 3, "caption": 4}', b'{"id": 5, "caption": "\xff"}'])
    )
    assert _read(path) == (
        [("1", "a", None), ("5", "\ufffd", None)],
        {"no row of the table": 3, "a row without a caption": 1},
    )


def test_nul_bytes_and_short_rows_do_not_stop_a_csv(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"id,caption\n1,a\0b\n2\n3,\xff\n")
    assert _read(path) == (
        [("1", "a\ufffdb", None), ("3", "\ufffd", None)],
        {"a row without a caption": 1},
    )


@pytest.mark.parametrize(
    ("name", "raw", "told"),
    [
        ("a.csv", b"id,title_of_it\n1,2\n", "has no column caption or text"),
        ("a.parquet", b"PAR1", "cannot be read"),
        ("a.json", b'{"annotations": [', "neither JSON lines nor JSON"),
        ("a.csv", b"", "has no column caption or text"),
    ],
)
def test_a_file_that_is_no_table_of_captions_is_named(
    tmp_path: Path, name: str, raw: bytes, told: str
) -> None:
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(BadInput, match=told):
        _read(tmp_path / name)


def test_the_lines_of_a_samples_text_are_captions_of_its_image(tmp_path: Path) -> None:
    path = tmp_path / "0.tar"
    with path.open("wb") as tar:
        tars.append(tar, "a.jpg", b"x" * 999)
        tars.append(tar, "a.txt", b"one\n\ntwo \n")
        tars.append(tar, "b.json", json.dumps({"caption": "three"}).encode())
        tars.append(tar, "c.cls", b"7")
    found, unread = _read(path)
    assert found == [
        Caption("0.tar/a.0", "one", "0.tar/a"),
        Caption("0.tar/a.1", "two", "0.tar/a"),
        Caption("0.tar/b", "three", "0.tar/b"),
    ]
    assert list(unread.values()) == [1]
