"""pipeline.ingest.sources, columns, rows and quotes"""

import bz2
import codecs
import csv
import gzip
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from pipeline.errors import BadInput
from pipeline.ingest import sources
from pipeline.ingest.columns import layout_of
from pipeline.ingest.quotes import first_rows, follow
from pipeline.ingest.rows import Part, batches_in
from pipeline.ingest.sources import table_parts
from pipeline.settings import TableSource

_URL = "http://a.example/1.jpg"
_ROW = (_URL, "a red circle", None, None)
_UNREADABLE = (None, None, None, "unreadable row")


def _rows(path: Path, **given: Any) -> list[tuple[str | None, ...]]:
    """The rows of a file that one task reads whole."""
    layout = layout_of(path, TableSource(path=str(path), **given))
    assert layout is not None
    stop = pq.read_metadata(path).num_row_groups if layout.form == "parquet" else -1
    return _rows_of(Part(str(path), layout, 0, stop))


def _rows_of(part: Part) -> list[tuple[str | None, ...]]:
    found: list[tuple[str | None, ...]] = []
    for columns in batches_in(part):
        arrays = [pa.array(column, pa.string()).to_pylist() for column in columns]
        found += zip(*arrays, strict=True)
    return found


def _written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


# -- columns -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        *("URL TEXT", "url text", "url caption", "image_url caption_reference_description"),
        *("Url Title", "title url", "imageUrl alt_text"),
    ],
)
def test_columns_are_known_by_the_names_of_public_datasets(tmp_path: Path, names: str) -> None:
    cells = {name: _URL if "ur" in name.lower() else "a red circle" for name in names.split()}
    cells["width"] = "9"
    text = "\n".join("\t".join(row) for row in (cells.keys(), cells.values()))
    table = pa.table({name: [cell] for name, cell in cells.items()})
    pq.write_table(table, tmp_path / "x.parquet")
    for path in (
        tmp_path / "x.parquet",
        _written(tmp_path / "x.tsv", text),
        _written(tmp_path / "x.csv", text.replace("\t", ",")),
        _written(tmp_path / "x.jsonl", json.dumps(cells)),
    ):
        assert _rows(path) == [_ROW], path


def test_a_text_without_names_is_read_by_what_its_columns_hold(tmp_path: Path) -> None:
    cc12m = _written(tmp_path / "cc12m.tsv", f"{_URL}\ta red circle\n" * 2)
    cc3m = _written(tmp_path / "cc3m.tsv", f"a red circle\t{_URL}\n" * 2)
    assert _rows(cc12m) == _rows(cc3m) == [_ROW] * 2


def test_columns_are_what_the_settings_say(tmp_path: Path) -> None:
    named = _written(tmp_path / "n.csv", f"url,caption,words,page\nno,no,a red circle,p\n,,{_URL},")
    assert _rows(named, url="page", caption=3, page_url="words")[0] == (
        *("p", "a red circle", "a red circle", None),
    )
    bare = _written(tmp_path / "b.csv", f"7,a red circle,{_URL}\n")
    assert _rows(bare, header=False, url=3, caption=2) == [_ROW]
    odd = _written(tmp_path / "o.txt", f"{_URL}#a red circle\n")
    assert _rows(odd, format="csv", separator="#") == [_ROW]


@pytest.mark.parametrize(
    ("name", "text", "given", "told"),
    [
        ("x.csv", "a,b\n1,2\n", {}, "has no column url or .* (it has a, b): name it with `url"),
        ("x.csv", "url,b\nx,2\n", {"caption": "c"}, "has no column c (it has url, b)"),
        ("x.csv", "url,b\nx,2\n", {"caption": 3}, "has no column 3 (it has url, b)"),
        ("x.csv", f"{_URL},2,3\n", {}, "has no names of columns"),
        ("x.csv", f"{_URL},2\n", {"caption": "c"}, "give `caption` as a place from 1 to 2"),
        ("x.csv", "one\ntwo\n", {}, "does not begin with cells that ',' or"),
        ("x.dat", "url,caption\n", {}, "does not tell its format"),
        ("x.json", '[{"url": "x"}]', {}, "does not begin with JSON objects, one a line"),
        ("x.parquet", "PAR1 broken", {}, "is not a whole parquet file"),
        ("x.csv", "u,c\n".encode("utf-16"), {}, "is UTF-16: write it as UTF-8"),
        ("x.csv.gz", b"\x1f\x8b\x08 broken", {}, "is not a whole csv file"),
    ],
)
def test_a_file_that_cannot_be_understood_is_named_with_the_next_step(
    tmp_path: Path, name: str, text: str | bytes, given: dict[str, Any], told: str
) -> None:
    path = _written(tmp_path / name, text)
    with pytest.raises(BadInput) as error:
        layout_of(path, TableSource(path=str(path), **given))
    assert str(path) in str(error.value)
    first, _, second = told.partition(".*")
    assert first in str(error.value)
    assert second in str(error.value)


def test_a_column_that_is_no_text_is_named_with_its_type(tmp_path: Path) -> None:
    pq.write_table(pa.table({"url": ["x"], "caption": [["a"]]}), tmp_path / "x.parquet")
    with pytest.raises(BadInput, match=r"column caption of .* is list<.*>, not text"):
        _rows(tmp_path / "x.parquet")


# -- rows ----------------------------------------------------------------------------------


def test_a_row_of_another_width_is_unreadable_and_an_empty_line_is_no_row(tmp_path: Path) -> None:
    body = f"{_URL}\ta red circle\nonly\n\n\r\n{_URL}\ttwo\tcells\n{_URL}\ta red circle"
    told = [_ROW, _UNREADABLE, _UNREADABLE, _ROW]
    assert _rows(_written(tmp_path / "x.tsv", f"url\tcaption\n{body}")) == told
    commas = body.replace("\t", ",")
    assert _rows(_written(tmp_path / "x.csv", f"url,caption\r\n{commas}")) == told


def test_a_quoted_cell_holds_separators_quotes_and_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    caption = 'a "red" circle,\nin two lines\r\nor three'
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([["caption", "url"], [caption, _URL], ['5" wide', _URL]])
    assert [row[1] for row in _rows(path)] == [caption, '5" wide']


def test_quotes_in_a_tsv_are_part_of_the_caption(tmp_path: Path) -> None:
    body = f'{_URL}\t"Welcome" sign\n{_URL}\t"never closed\n{_URL}\ta red circle\n'
    path = _written(tmp_path / "x.tsv", body)
    assert [row[1] for row in _rows(path)] == ['"Welcome" sign', '"never closed', "a red circle"]
    assert _rows(path, quotes=True)[0][1] == "Welcome sign"


def test_a_quote_that_is_never_closed_loses_a_bounded_count_of_lines(tmp_path: Path) -> None:
    line = f"{_URL},a red circle\n"
    lines = 20_000
    path = _written(tmp_path / "x.csv", "url,caption\n" + f'{_URL},"open\n' + line * lines)
    told = Counter(_rows(path))
    assert told.total() == lines + 1
    assert 1 < told[_UNREADABLE] < (1 << 17) / len(line) + 2
    assert set(told) == {_ROW, _UNREADABLE}
    # At the end of the file too.
    path = _written(tmp_path / "x.csv", "url,caption\n" + line + f'{_URL},"open\n' + line * 9)
    assert _rows(path) == [_ROW, *[_UNREADABLE] * 10]


def test_an_endless_line_is_one_unreadable_row(tmp_path: Path) -> None:
    row = f"{_URL}\ta red circle\n"
    path = _written(tmp_path / "x.tsv", row + "x" * 5_000_000 + "\n" + row)
    assert _rows(path) == [_ROW, _UNREADABLE, _ROW]


def test_an_endless_row_of_small_cells_is_given_up(tmp_path: Path) -> None:
    row = f"{_URL},a red circle\n"
    endless = '"x\n",' * 500_000
    path = _written(tmp_path / "x.csv", "url,caption\n" + row + endless + '"x"\n' + row)
    told = Counter(_rows(path))
    assert told[_ROW] == 2
    assert told[_UNREADABLE] == told.total() - 2 == 500_001


def test_json_lines_that_are_no_row_are_unreadable(tmp_path: Path) -> None:
    row = {"url": _URL, "caption": "a red circle"}
    odd = ["{", "3", "[]", '{"url": 5}', '{"caption": ["a"]}', "[" * 99_999]
    path = _written(tmp_path / "x.jsonl", "\n".join([json.dumps(row), "", *odd, json.dumps(row)]))
    assert _rows(path) == [_ROW, *[_UNREADABLE] * 6, _ROW]
    mended = [b'{"url": "u", "caption": "\\ud83d"}', b'{"url": "u", "caption": "\xe9", "x": NaN}']
    path = _written(tmp_path / "x.jsonl", b"\n".join([*mended, b'{"url": null}']))
    assert [row[:2] for row in _rows(path)] == [("u", "\ufffd")] * 2 + [(None, None)]


def test_one_column_may_stand_for_two_in_any_format(tmp_path: Path) -> None:
    told = [(_URL, "a red circle", _URL, None)]
    row = {"url": _URL, "caption": "a red circle"}
    lines = [json.dumps(row), json.dumps(row | {"x": "\ud83d"})]
    path = _written(tmp_path / "x.jsonl", "\n".join(lines))
    assert _rows(path, page_url="url") == told * 2
    path = _written(tmp_path / "x.csv", f"url,caption\n{_URL},a red circle\n")
    assert _rows(path, page_url="url") == told
    pq.write_table(pa.table({name: [cell] for name, cell in row.items()}), tmp_path / "x.parquet")
    assert _rows(tmp_path / "x.parquet", page_url="url") == told


@pytest.mark.parametrize("kind", [pa.string(), pa.dictionary(pa.int8(), pa.string())])
def test_a_long_text_that_a_dictionary_repeats_is_not_held_for_every_row(
    tmp_path: Path, kind: pa.DataType
) -> None:
    path = tmp_path / "x.parquet"
    caption = pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int8()), ["x" * (1 << 17)])
    table = pa.table({"url": [_URL] * 2000, "caption": caption.cast(kind)})
    pq.write_table(table, path)
    layout = layout_of(path, TableSource(path=str(path)))
    assert layout is not None
    sizes = [
        (len(columns[0]), columns[1].nbytes)
        for columns in batches_in(Part(str(path), layout, 0, 1))
    ]
    assert sum(rows for rows, _ in sizes) == 2000
    assert max(held for _, held in sizes) < 1 << 26  # and not 2000 times its length


def test_bytes_that_are_no_text_are_replaced(tmp_path: Path) -> None:
    captions = pa.array([b"caf\xe9", b"\x00\xff", None], pa.binary())
    pq.write_table(pa.table({"url": ["x"] * 3, "caption": captions}), tmp_path / "x.parquet")
    told = ["caf\ufffd", "\x00\ufffd", None]
    assert [row[1] for row in _rows(tmp_path / "x.parquet")] == told
    path = _written(tmp_path / "x.csv", b"url,caption\nx,caf\xe9\nx,\x00\xff\n")
    assert [row[1] for row in _rows(path)] == told[:2]


@pytest.mark.parametrize(
    "kind",
    [pa.large_string(), pa.string_view(), pa.large_binary(), pa.dictionary(pa.int8(), pa.string())],
)
def test_parquet_may_keep_its_text_in_any_way(tmp_path: Path, kind: pa.DataType) -> None:
    caption = pa.array(["a red circle"]).cast(kind)
    pq.write_table(pa.table({"url": [_URL], "caption": caption}), tmp_path / "x.parquet")
    assert _rows(tmp_path / "x.parquet") == [_ROW]


def test_columns_that_are_not_asked_for_do_no_harm(tmp_path: Path) -> None:
    seen = pa.array([1], pa.timestamp("ns"))
    table = pa.table({"url": [_URL], "caption": ["a red circle"], "URL": [1], "a.b": seen})
    pq.write_table(table, tmp_path / "x.parquet")
    assert _rows(tmp_path / "x.parquet") == [_ROW]


def _zstd(text: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(text)
    return bytes(sink.getvalue())


@pytest.mark.parametrize(
    ("suffix", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress), ("zst", _zstd)]
)
def test_a_packed_text_is_read_up_to_where_it_breaks(
    tmp_path: Path, suffix: str, pack: Any
) -> None:
    lines = [f"http://a.example/{n * 0x9E3779B1 % 2**32:x}\tnumber {n}\n" for n in range(90_000)]
    text = "".join(lines).encode()
    path = _written(tmp_path / f"x.tsv.{suffix}", pack(text))
    assert len(_rows(path)) == 90_000
    _written(path, pack(text)[: -len(pack(text)) // 4])
    rows = _rows(path)
    assert 45_000 < len(rows) < 90_000
    assert rows[-1] == (None, None, None, "unreadable file")
    assert Counter(row[3] for row in rows) == {None: len(rows) - 1, "unreadable file": 1}


def test_parquet_that_breaks_in_its_middle_stops_the_run_and_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    table = pa.table({"url": [_URL] * 9999, "caption": [f"number {n}" for n in range(9999)]})
    pq.write_table(table, path, use_dictionary=False, write_page_checksum=True)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    with pytest.raises(BadInput, match=r"x\.parquet cannot be read to its end"):
        _rows(path)


# -- quotes --------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)  # the first example compiles the kernel
@given(st.text(alphabet='a",\n;'), st.integers(min_value=1, max_value=9))
def test_a_file_is_cut_where_its_rows_begin_when_read_from_the_start(text: str, size: int) -> None:
    lines = io.StringIO(text, newline="\n").readlines()
    reader = csv.reader(lines)
    begins = [sum(map(len, lines[: reader.line_num])) for _ in reader]
    starts = range(0, len(text), size)
    found = first_rows([follow(text[at : at + size].encode(), ",") for at in starts])
    for start, row in list(zip(starts, found, strict=True))[1:]:
        next_row = min((begin for begin in begins if begin > start), default=len(text))
        assert row == min(next_row - start, size)


# -- files ---------------------------------------------------------------------------------


def _counted(spark: SparkSession, **given: Any) -> Counter[tuple[str | None, ...]]:
    parts = table_parts(spark, TableSource(**given))
    return Counter(row for part in parts for row in _rows_of(part))


def test_a_large_text_is_read_in_parts_and_no_row_twice(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "_PART_BYTES", 1500)
    captions = [f'number {n}, "so"\nit is, "' + "x" * (n % 37) for n in range(60)]
    with (tmp_path / "x.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["url", "caption"], *([_URL, text] for text in captions)])
    assert _counted(spark, path=str(tmp_path / "x.csv")) == Counter(
        (_URL, text, None, None) for text in captions
    )
    plain = [text.replace("\n", " ") for text in captions]
    lines = [json.dumps({"url": _URL, "caption": text}) for text in plain]
    _written(tmp_path / "x.jsonl", "\n".join(lines))
    assert _counted(spark, path=str(tmp_path / "x.jsonl")) == Counter(
        (_URL, text, None, None) for text in plain
    )


def test_the_files_of_a_folder_may_differ_in_their_columns(
    spark: SparkSession, tmp_path: Path
) -> None:
    (tmp_path / "deep").mkdir()
    columns = {"URL": [_URL] * 9, "TEXT": ["a red circle"] * 9}
    pq.write_table(pa.table(columns), tmp_path / "deep" / "a.parquet", row_group_size=2)
    more = {"caption": ["a red circle"], "url": [_URL], "page_url": ["p"]}
    pq.write_table(pa.table(more), tmp_path / "b.parquet")
    # Beside a table there may lie what its tools left.
    _written(tmp_path / "00000_stats.json", "{\n}")
    _written(tmp_path / "_SUCCESS", "")
    _written(tmp_path / ".b.parquet.crc", "x")
    assert _counted(spark, path=str(tmp_path)) == {_ROW: 9, (*_ROW[:2], "p", None): 1}


def test_the_folder_that_one_is_in_gives_all_files_that_are_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = "url,caption\nhttps://a.example/1.jpg,a fox\n"
    (tmp_path / "b").mkdir()
    for name in ("ab_c.csv", "a.csv", "1_2.csv", "b/__.csv", "b/x_.csv", "_x.csv", ".y.csv"):
        _written(tmp_path / name, row)
    monkeypatch.chdir(tmp_path)

    parts = table_parts(None, TableSource(path="."))  # type: ignore[arg-type]

    assert [part.path for part in parts] == ["1_2.csv", "a.csv", "ab_c.csv", "b/x_.csv"]


def test_a_mark_of_byte_order_in_the_middle_moves_no_row(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, row = b"url,caption\n", f'{_URL},"a red\ncircle"\n'.encode()
    text = head + row * 3 + codecs.BOM_UTF8 + row * 3
    for part_bytes in range(len(head + row * 3) - 3, len(head + row * 3) + 4):
        monkeypatch.setattr(sources, "_PART_BYTES", part_bytes)
        path = _written(tmp_path / "x.csv", text)
        parts = table_parts(spark, TableSource(path=str(path)))
        rows = [found for part in parts for found in _rows_of(part)]
        assert len(rows) == 6, part_bytes
        assert all(text[p.start - 1 : p.start] in (b"", b"\n") for p in parts), part_bytes


def test_an_empty_file_among_others_has_no_rows_and_alone_is_a_mistake(
    spark: SparkSession, tmp_path: Path
) -> None:
    _written(tmp_path / "a.csv", "")
    with pytest.raises(BadInput, match=r"holds no rows"):
        table_parts(spark, TableSource(path=str(tmp_path)))
    _written(tmp_path / "b.csv.gz", gzip.compress(f"url,caption\n{_URL},a red circle".encode()))
    assert _counted(spark, path=str(tmp_path)) == {_ROW: 1}


def test_a_folder_without_a_table_or_with_two_kinds_is_named(
    spark: SparkSession, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=r"nowhere does not exist"):
        table_parts(spark, TableSource(path=str(tmp_path / "nowhere")))
    with pytest.raises(BadInput, match=r"holds no table"):
        table_parts(spark, TableSource(path=str(tmp_path)))
    _written(tmp_path / "a.csv", f"url,caption\n{_URL},a red circle")
    _written(tmp_path / "b.tsv", "")
    with pytest.raises(BadInput, match=r"several formats \(csv and tsv\)"):
        table_parts(spark, TableSource(path=str(tmp_path)))
    assert _counted(spark, path=str(tmp_path), format="csv") == {_ROW: 1}
