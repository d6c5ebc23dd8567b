"""What files of strangers may cost: one row or one file, and never the memory or the hour."""

import gzip
import io
import os
import tarfile
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline import captions, decoding, scan
from pipeline.audit import predictions
from pipeline.errors import BadInput
from pipeline.evalsets import archives, cifar, layout, pickles
from pipeline.members import Member, members
from pipeline.scan import Shard, Told
from pipeline.settings import EvalSet
from pipeline.variants import VARIANTS, basis, varied

END = bytes(1024)
NO_TEXT = pa.StringArray.from_buffers(
    2, pa.py_buffer(b"\0\0\0\0\1\0\0\0\3\0\0\0"), pa.py_buffer(b"\xffok")
)
"""A text that is no UTF-8, and one that is."""


def _header(name: str, size: bytes = b"00000000000\0", kind: bytes = b"0") -> bytes:
    block = bytearray(tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT))
    block[124:136], block[156:157], block[148:156] = size, kind, b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def _file(tmp_path: Path, name: str, body: bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(body)
    return path


def _png(width: int, height: int) -> bytes:
    stream = io.BytesIO()
    Image.new("1", (width, height)).save(stream, "PNG")
    return stream.getvalue()


def _captions(path: Path) -> tuple[list[str], Counter[str]]:
    unread: Counter[str] = Counter()
    return [caption.text for caption in captions.read(path, unread)], unread


def test_a_size_beyond_any_file_costs_one_member_and_hides_none(tmp_path: Path) -> None:
    huge = b"\x80" + (1 << 59).to_bytes(11, "big")
    tar = _header("a.jpg") + _header("b.jpg", huge) + _header("c.jpg") + END
    found = list(members(_file(tmp_path, "a.tar", tar), lambda _: True))
    assert [one.name for one in found if isinstance(one, Member)] == ["a.jpg", "c.jpg"]
    assert sum(not isinstance(one, Member) for one in found) == 1


def test_a_name_of_a_megabyte_is_counted_and_not_held(tmp_path: Path) -> None:
    name = b"n" * 100_000 + b".jpg\0"
    told = _header("l", b"%011o\0" % len(name), b"L") + name + bytes(-len(name) % 512)
    tar = _file(tmp_path, "a.tar", told + _header("x") + END)
    counted = Told()
    assert list(scan.rows_in(Shard("s", str(tar), ""), counted)) == []
    assert counted.refused == {"too long a name": 1}
    with archives.opened(str(tar)) as stream, pytest.raises(BadInput, match="a name of 100,004"):
        list(archives.members(stream))


def test_a_pax_size_of_thousands_of_digits_is_a_tar_that_breaks_off(tmp_path: Path) -> None:
    record = b"5010 size=" + b"9" * 4999 + b"\n"
    told = _header("x", b"%011o\0" % len(record), b"x") + record + bytes(-len(record) % 512)
    tar = _file(tmp_path, "a.tar", told + _header("a.jpg") + END)
    with archives.opened(str(tar)) as stream, pytest.raises(BadInput, match="breaks off"):
        list(archives.members(stream))


def test_names_that_are_taken_are_not_counted_from_the_start_each_time() -> None:
    class Asked(str):
        __slots__ = ()
        times = 0

        def __hash__(self) -> int:
            Asked.times += 1
            return super().__hash__()

    names = scan._Names()
    found = [names.own(Asked("a")) for _ in range(100)]
    assert found[:3] == ["a", "a#2", "a#3"]
    assert len(set(found)) == 100
    assert Asked.times < 1000


def test_the_images_of_one_key_are_not_held_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "MAX_MEMBERS", 3)
    tar = b"".join(_header(f"a.{n}.jpg") for n in range(7)) + END
    told = Told()
    rows = list(scan.rows_in(Shard("s", str(_file(tmp_path, "a.tar", tar)), ""), told))
    assert len({row["pair_id"] for row in rows}) == 7
    assert told.oddities["a sample of more than 10,000 members"] == 0
    assert told.oddities["a sample of more than 3 members"] == 2


def test_a_text_too_long_for_a_caption_is_counted(tmp_path: Path) -> None:
    size = (1 << 20) + 512
    tar = _header("a.jpg") + _header("a.txt", b"%011o\0" % size) + b"x" * size + END
    told = Told()
    (row,) = scan.rows_in(Shard("s", str(_file(tmp_path, "a.tar", tar)), ""), told)
    assert row["caption"] is None
    assert told.oddities["a text too long to be read"] == 1


def test_lists_that_hold_lists_are_no_name_in_a_pickle() -> None:
    doubled = b"".join(b"h%ch%c\x86\x94" % (n, n) for n in range(64))
    with pytest.raises(BadInput, match="tuple where str was due"):
        pickles.load(b"\x80\x04]\x94" + doubled + b"h\x40h\x40\x93.", "x")


def test_a_label_of_thousands_of_digits_is_no_label() -> None:
    number = b"\x8b" + (2200).to_bytes(4, "little") + b"\x7f" * 2200
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00tR"
    state = b"(K\x01K\x01M\x00\x0c\x86cnumpy\ndtype\n(U\x02u1tR\x89T\x00\x0c\x00\x00" + bytes(3072)
    body = b"\x80\x02}U\x06labels]" + number + b"asU\x04data" + array + state + b"tbs."
    with pytest.raises(BadInput, match="no batch of CIFAR"):
        cifar._batch(cifar._Piece("data_batch_1", "p", 0, body), "x", [])


def test_a_strip_is_too_many_pixels_for_the_registers_that_it_fills() -> None:
    with pytest.raises(decoding.Undecodable) as told:
        decoding.decoded(_png(5, 2_000_000))
    assert told.value.reason == "too many pixels"
    assert decoding.decoded(_png(5, 20_000)).size == (5, 20_000)


def test_no_variant_of_a_strip_is_larger_than_a_picture() -> None:
    small = basis(Image.new("RGB", (1, 65_500)))
    for name in VARIANTS:
        assert max(varied(small, name).size) <= 5000


@pytest.mark.parametrize("end", ["3,last\n", ""])
def test_a_quote_that_is_never_closed_costs_its_own_row(tmp_path: Path, end: str) -> None:
    rows = "".join(f"{n},row {n}\n" for n in range(10_000 if end else 3))
    path = _file(tmp_path, "a.csv", f'id,caption\n1,ok\n2,"open\n{rows}{end}'.encode())
    found, unread = _captions(path)
    assert found[:3] == ["ok", "row 0", "row 1"]
    assert len(found) == 1 + rows.count("\n") + end.count("\n")
    assert unread == {"no row of the table": 1}


def test_a_caption_may_stand_on_several_lines(tmp_path: Path) -> None:
    path = _file(tmp_path, "a.csv", b'id,caption\n1"x,"one\ntwo"\n2,ok\n')
    assert _captions(path) == (["one\ntwo", "ok"], {})


def test_a_line_without_an_end_costs_one_row(tmp_path: Path) -> None:
    lines = b'{"caption":"a"}\n' + bytes(3 << 20) + b'\n{"caption":"b"}\n'
    path = _file(tmp_path, "a.jsonl.gz", gzip.compress(lines))
    assert _captions(path) == (["a", "b"], {"no row of the table": 1})


def test_a_broken_first_line_costs_one_row(tmp_path: Path) -> None:
    path = _file(tmp_path, "a.jsonl", b'{"caption":\n{"caption":"b"}\n')
    assert _captions(path) == (["b"], {"no row of the table": 1})


def test_a_table_that_breaks_off_is_named(tmp_path: Path) -> None:
    packed = gzip.compress(b"caption\n" + os.urandom(1000).hex().encode() + b"\n")
    with pytest.raises(BadInput, match=r"a\.csv\.gz cannot be read"):
        _captions(_file(tmp_path, "a.csv.gz", packed[:-20]))


def test_a_pipe_is_no_table(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(BadInput, match="is no file"):
        _captions(tmp_path / "a.csv")


def test_a_text_that_is_no_utf8_is_still_searched(tmp_path: Path) -> None:
    pq.write_table(pa.table({"caption": NO_TEXT}), tmp_path / "a.parquet")
    assert _captions(tmp_path / "a.parquet") == (["\ufffd", "ok"], {})


def test_a_long_text_in_every_row_is_held_once_and_cut_off(tmp_path: Path) -> None:
    every = pa.DictionaryArray.from_arrays(pa.array([0] * 300, pa.int32()), ["x" * 20_000_000])
    pq.write_table(pa.table({"caption": every}), tmp_path / "a.parquet", compression="zstd")
    found, unread = _captions(tmp_path / "a.parquet")
    assert {len(text) for text in found} == {1 << 16}
    assert unread == {captions.CUT_OFF: 300}


def test_predictions_that_are_no_utf8_are_a_broken_file(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"eval_id": NO_TEXT, "correct": [True, True]}), path)
    with pytest.raises(BadInput, match="is broken"):
        predictions.read([str(path)], {"s": {"ok"}})


def test_folders_in_folders_without_end_are_no_set(tmp_path: Path) -> None:
    folders = [f"{tmp_path}{'/a' * depth}" for depth in range(1, 1200)]
    for folder in folders:
        Path(folder).mkdir()
    with pytest.raises(BadInput, match="without end"):
        layout.files(EvalSet(name="s", path=str(tmp_path)))
    for folder in reversed(folders):  # which pytest could not
        Path(folder).rmdir()
