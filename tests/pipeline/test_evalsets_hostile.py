"""pipeline.evalsets: files that break off, lie, or want to do harm"""

import contextlib
import gzip
import io
import os
import pickle
import pickletools
import struct
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import evalsets
from pipeline.errors import BadInput
from pipeline.evalsets import archives, members, pickles
from tests.pipeline import eval_files as files
from tests.pipeline.eval_files import evalset

_FUNCTION_SCOPED = [HealthCheck.function_scoped_fixture]


def _names(path: Path) -> list[str]:
    return [image.name for image in evalsets.images(evalset(path), "test")]


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: path / "none", "does not exist"),
        (lambda path: path, "holds no files"),
        (lambda path: files.folder(path, [("a.doc", b"x")]), "holds no images"),
        (lambda path: files.folder(path, [("a.png", b"x"), ("b.parquet", b"x")]), "more than one"),
        (lambda path: files.folder(path, [("a.parquet", b"PAR1")]), "a.parquet is not whole"),
        (lambda path: files.folder(path, [("a.arrow", b"x" * 99)]), "a.arrow is not whole"),
        (lambda path: files.folder(path, [("set.tar", b"x" * 999)]), "nor a readable tar"),
        (lambda path: files.folder(path, [("train/cat/a.png", b"x")]), "its splits are `train`"),
        (lambda path: files.folder(path, [("test_X.bin", b"x")]), "no images of 27648"),
        (lambda path: files.folder(path, [("test_batch.bin", b"x")]), "no images of 3073"),
        (lambda path: files.folder(path, [("a-images-idx3-ubyte", b"x")]), "breaks off, at byte 1"),
    ],
)
def test_a_set_that_cannot_be_read_says_why(tmp_path: Path, make, told: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BadInput, match=told):
        list(evalsets.images(evalset(make(tmp_path)), "test"))


@pytest.mark.parametrize("name", ["a.png", "set.tar", "a.parquet", "test_X.bin"])
def test_a_file_that_goes_away_while_it_is_read_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "set.tar":
        files.tar(path, [("a.png", b"x")])
    elif name == "a.parquet":
        files.hugging_face(path, [(b"x", 0)], ["cat"])
    else:
        path.write_bytes(bytes(27648))
    (part,) = evalsets.parts(evalset(path))
    path.unlink()
    with pytest.raises(BadInput, match=name):
        list(evalsets.read(part))


@pytest.mark.parametrize("kind", ["w", "w:gz"])
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_tar_that_breaks_off_anywhere_stops_the_run(tmp_path: Path, kind: str, form: int) -> None:
    whole = io.BytesIO()
    name = "test/cat/" + "y" * (150 if form != tarfile.USTAR_FORMAT else 1) + "{}.png"
    with tarfile.open(fileobj=whole, mode=kind, format=form) as out:  # type: ignore[call-overload]
        for number in range(3):
            info = tarfile.TarInfo(name.format(number))
            info.size = 600
            out.addfile(info, io.BytesIO(os.urandom(600)))
    data = whole.getvalue()
    end = len(data.rstrip(b"\0")) if kind == "w" else len(data)
    path = tmp_path / f"set.{kind.replace(':', '.')}.tar"
    path.write_bytes(data)
    assert len(_names(path)) == 3
    # The last member's padding and the end of the archive are zeros, and missed all the same.
    for cut in range(1, end if kind == "w" else end - 1, 97):
        path.write_bytes(data[:cut])
        with pytest.raises(BadInput, match=r"set\.w"):
            _names(path)
    path.write_bytes(data[: -(-end // 512) * 512] if kind == "w" else data[:-8])
    with pytest.raises(BadInput, match="is not whole"):
        _names(path)


def test_a_damaged_header_is_told_with_its_byte(tmp_path: Path) -> None:
    path = files.tar(tmp_path / "set.tar", [(f"{n}.png", b"x" * 512) for n in range(3)])
    data = bytearray(path.read_bytes())
    data[1024 + 5] ^= 1
    path.write_bytes(data)
    with pytest.raises(BadInput, match="no tar header at byte 1,024"):
        _names(path)


def test_two_tars_in_one_file_are_both_read(tmp_path: Path) -> None:
    one = files.tar(tmp_path / "1.tar", [("a.png", b"1")]).read_bytes()
    two = files.tar(tmp_path / "2.tar", [("b.png", b"2")]).read_bytes()
    both = tmp_path / "both" / "set.tar"
    both.parent.mkdir()
    both.write_bytes(one + two)
    assert _names(both) == ["a.png", "b.png"]


def test_names_lead_nowhere_and_are_each_images_own(tmp_path: Path) -> None:
    path = tmp_path / "set.tar"
    hostile = ["../../etc/a.png", "/etc/a.png", "a\n\x1b[2J.png", "b\udcff.png", "c\u202e.png"]
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as out:
        for name in [*hostile, "etc/a.png (2)", "", "x" * 3000 + ".png"]:
            info = tarfile.TarInfo(name)
            info.size = 1
            out.addfile(info, io.BytesIO(b"x"))
        for name, kind in (("l.png", tarfile.SYMTYPE), ("d.png", tarfile.CHRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            out.addfile(info)
        info = tarfile.TarInfo("hard.png")
        info.type, info.linkname = tarfile.LNKTYPE, "/etc/a.png"
        out.addfile(info)
    found = list(evalsets.images(evalset(path), "test"))
    names = [image.name for image in found]
    assert sorted(names)[:6] == [
        "a\\x0a\\x1b[2J.png",
        "b\\xff.png",
        "c\\u202e.png",
        "etc/a.png",
        "etc/a.png (2)",
        "hard.png",
    ]
    assert len(names) == 7
    assert {image.data for image in found} == {b"x"}
    assert max(map(len, names)) == 1000


def test_of_equal_names_the_second_is_told_apart_and_found(tmp_path: Path) -> None:
    path = files.tar(tmp_path / "set.tar", [("a.png", b"1"), ("a.png", b"2"), ("a.png", b"3")])
    found = list(evalsets.images(evalset(path), "test"))
    assert [(image.name, image.data) for image in found] == [
        ("a.png", b"1"),
        ("a.png (2)", b"2"),
        ("a.png (3)", b"3"),
    ]
    assert list(evalsets.find(evalset(path), ["a.png (2)"])) == found[1:2]


def test_a_huge_image_arrives_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "MAX_IMAGE_BYTES", 10)
    path = files.tar(tmp_path / "set.tar", [("a.png", b"x" * 11), ("b.png", b"x" * 10)])
    assert [image.data for image in evalsets.images(evalset(path))] == [b"", b"x" * 10]


def test_a_header_that_asks_for_much_memory_is_refused(tmp_path: Path) -> None:
    path = files.tar(tmp_path / "set.tar", [("a.png", b"x")])
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2**30
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + path.read_bytes())
    with pytest.raises(BadInput, match="a name of 1,073,741,824 bytes at byte 512"):
        _names(path)


class _Evil:
    def __reduce__(self) -> object:
        return os.system, ("touch /tmp/evil",)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path, protocol: int) -> None:
    evil = pickle.dumps({b"data": _Evil(), b"labels": []}, protocol)
    path = files.folder(tmp_path, [("test_batch", evil)])
    with pytest.raises(BadInput, match=r"test_batch is a pickle that asks for posix.system"):
        _names(path)


_ATTACKS = {
    "a memo of 64 GB": b"\x80\x02Nr\xff\xff\xff\xff.",
    "an array of 16 EB": b"\x80\x05\x96" + b"\xff" * 7 + b"\x7f" + b"x.",
    "bytes of 4 GB": b"\x80\x03B\xff\xff\xff\xffx.",
    "an old instance": b"(S'x'\nios\nsystem\n.",
    "an object": b"\x80\x02cnumpy\nndarray\n)\x81.",
    "a name in numpy": b"\x80\x02cnumpy\nload\nU\x01x\x85R.",
    "a known name with dots": b"\x80\x04\x8c\x05numpy\x8c\x0fdtype.__class__\x93.",
    "a nest to hash": b"\x80\x02(" + b")" + b"\x85" * 100_000 + b"NtR.",
    "a nest as a key": b"\x80\x02})" + b"\x85" * 100_000 + b"Ns.",
    "a nest to print": b"\x80\x02cnumpy\ndtype\n)" + b"\x85" * 100_000 + b"R.",
    "a state of a list": b"\x80\x02]}b.",
    "a lying array": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)R"
    b"(K\x01M\xff\xffM\xff\xff\x86N\x89Ntb.",
    "nothing": b"",
    "no end": b"\x80\x02}",
    "an empty stack": b"0.",
    "an encoding that calls": b"\x80\x02c_codecs\nencode\nX\x01\0\0\0xX\x03\0\0\0rot\x86R.",
    "an extension": b"\x80\x02\x82\x01.",
    "a persistent name": b"Pos.system\n.",
    "many steps": b"N0" * 2_100_000 + b"N.",
}


@pytest.mark.parametrize("attack", _ATTACKS)
def test_other_attacks_of_pickles_end_in_a_word(attack: str) -> None:
    with pytest.raises(BadInput, match=r"x\.pkl is"):
        pickles.load(_ATTACKS[attack], "x.pkl")


def test_what_is_left_of_python_in_a_pickle_is_plain() -> None:
    told = {"a": [1, -2, 2**70, 1.5, None, True, "é", b"b", (1, 2), {"k": ()}], 7: "x"}
    for protocol in range(6):
        found = pickles.load(pickle.dumps(told, protocol), "x")
        plain = [v.data if isinstance(v, pickles.Raw) else v for v in found["a"]]
        assert (plain, found[7]) == (told["a"], "x")


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_no_change_of_a_pickle_does_more_than_fail(data: st.DataObject) -> None:
    pixels = files.noise(1, 2, 8)
    seed = data.draw(st.sampled_from([files.python2_batch(pixels, [1, 2])]))
    broken = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(broken) - 1))
        codes = [ord(code.code) for code in pickletools.opcodes]
        broken[place] = data.draw(st.sampled_from(codes) | st.integers(0, 255))
    with contextlib.suppress(BadInput):
        pickles.load(bytes(broken), "x.pkl")


@settings(deadline=None, max_examples=200, suppress_health_check=_FUNCTION_SCOPED)
@given(st.data())
def test_no_change_of_a_tar_does_more_than_fail(tmp_path: Path, data: st.DataObject) -> None:
    path = files.tar(tmp_path / "set.tar", [("a/" * 60 + "é.png", b"x"), ("b.cls", b"1")])
    broken = bytearray(path.read_bytes()[:4096])
    for _ in range(data.draw(st.integers(1, 6))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(broken)
    with contextlib.suppress(BadInput), archives.opened(str(path)) as stream:
        for member in archives.members(stream):
            assert member.size <= len(broken)


def test_an_idx_file_that_promises_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    for count, side in ((2**31, 2**31), (2**32 - 1, 1), (3, 28)):
        head = struct.pack(">HBBIII", 0, 8, 3, count, side, side)
        path = files.folder(tmp_path, [("t10k-images-idx3-ubyte.gz", gzip.compress(head))])
        with pytest.raises(BadInput, match=r"t10k-images-idx3-ubyte\.gz"):
            _names(path)


def test_a_table_cut_in_its_middle_is_refused(tmp_path: Path) -> None:
    path = files.hugging_face(tmp_path / "a.parquet", [(files.png(n), 0) for n in range(9)], ["x"])
    assert pq.read_metadata(path).num_row_groups == 3
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadInput, match=r"a\.parquet is not whole"):
        _names(path)


def test_a_list_of_hashes_in_place_of_images_cannot_be_walked(tmp_path: Path) -> None:
    (tmp_path / "pdq.txt").write_text("0f" * 32)
    with pytest.raises(BadInput, match="scored = false"):
        _names(tmp_path / "pdq.txt")
