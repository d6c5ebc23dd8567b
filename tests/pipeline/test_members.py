"""pipeline.members"""

import gzip
import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import tars
from pipeline.members import Damage, Member, members

_Files = list[tuple[str, bytes]]
_FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)


def _tar(files: _Files, form: int = tarfile.GNU_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def _walked(folder: Path, raw: bytes) -> tuple[list[Member], list[Damage]]:
    path = folder / "a.tar"
    path.write_bytes(raw)
    found = list(members(path, lambda name: not name.endswith(".skip")))
    kept = [member for member in found if isinstance(member, Member)]
    return kept, [damage for damage in found if isinstance(damage, Damage)]


def _files(found: list[Member]) -> list[tuple[str, bytes | None]]:
    return [(member.name, member.data) for member in found]


_FILES: _Files = [("a/0.jpg", b"x" * 700), ("a/0.txt", b""), ("1.jpg", b"y" * 512)]


@pytest.mark.parametrize("form", _FORMATS)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_members_are_those_that_tarfile_reads_and_can_be_read_again(
    tmp_path: Path, form: int, pack: object
) -> None:
    long = [("ü" * 80 + "/" + "n" * 90 + ".jpg", b"long")] if form != tarfile.USTAR_FORMAT else []
    files = [*_FILES, *long]
    found, damages = _walked(tmp_path, pack(_tar(files, form)))  # type: ignore[operator]
    assert _files(found) == files
    assert damages == []
    for member in found:
        again = tars.read(tmp_path / "a.tar", member.offset, member.size)
        assert again == member.data


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_of_half_a_file_what_stands_before_is_kept_and_the_break_is_told(
    tmp_path: Path, pack: object
) -> None:
    raw = _tar(_FILES)
    found, damages = _walked(tmp_path, pack(raw[: 512 + 1024 + 512 + 512 + 100]))  # type: ignore[operator]
    assert [member.name for member in found] == ["a/0.jpg", "a/0.txt"]
    assert [damage.what for damage in damages] == ["the archive ends in the middle of 1.jpg"]


def test_a_gzip_that_breaks_off_keeps_what_stands_before(tmp_path: Path) -> None:
    noise = bytes(range(256)) * 40
    files = [(f"{n}.jpg", bytes((n * byte) & 255 for byte in noise)) for n in range(1, 9)]
    packed = gzip.compress(_tar(files))
    found, damages = _walked(tmp_path, packed[: len(packed) // 2])
    assert 0 < len(found) < len(files)
    assert _files(found) == files[: len(found)]
    assert len(damages) == 1


def test_behind_a_damaged_header_the_walk_goes_on(tmp_path: Path) -> None:
    raw = bytearray(_tar([(f"{n}.jpg", b"z" * 600) for n in range(4)]))
    raw[1536 + 100 : 1536 + 200] = b"\xff" * 100
    found, damages = _walked(tmp_path, bytes(raw))
    assert [member.name for member in found] == ["0.jpg", "2.jpg", "3.jpg"]
    assert damages == [Damage(1536, "no tar header")]


def test_archives_one_behind_the_other_are_read_to_the_end_and_told(tmp_path: Path) -> None:
    found, damages = _walked(tmp_path, _tar(_FILES) + _tar([("b.jpg", b"q")]))
    assert [member.name for member in found][-1] == "b.jpg"
    assert [damage.what for damage in damages] == ["members behind the end of the archive"]


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        (b"", "an empty file"),
        (b"\x28\xb5\x2f\xfd" + bytes(600), "packed as zstd"),
        (b"PK\x03\x04" + bytes(600), "packed as zip"),
        (b"no tar at all" * 100, "no tar header"),
        (_tar(_FILES[:1])[:1536], "ends without its mark"),
        (b"\x1f\x8b\x08no gzip", "ends without its mark"),
    ],
)
def test_what_is_no_whole_archive_is_told(tmp_path: Path, raw: bytes, what: str) -> None:
    _, damages = _walked(tmp_path, raw)
    assert what in damages[0].what


def test_links_devices_and_sparse_files_are_named_and_have_no_bytes(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        kinds = {"s": tarfile.SYMTYPE, "h": tarfile.LNKTYPE, "c": tarfile.CHRTYPE}
        for name, kind in {**kinds, "p": tarfile.FIFOTYPE, "d": tarfile.DIRTYPE}.items():
            info = tarfile.TarInfo(f"{name}.jpg")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        info = tarfile.TarInfo("pax.jpg")
        info.size, info.pax_headers = 3, {"GNU.sparse.major": "1", "GNU.sparse.name": "real.jpg"}
        tar.addfile(info, io.BytesIO(b"abc"))
        info = tarfile.TarInfo("odd.jpg")
        info.type, info.size = b"Z", 3
        tar.addfile(info, io.BytesIO(b"abc"))
        info = tarfile.TarInfo("last.jpg")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"!"))
    found, damages = _walked(tmp_path, stream.getvalue())
    assert {member.name: member.refused for member in found} == {
        "s.jpg": "link",
        "h.jpg": "link",
        "c.jpg": "device",
        "p.jpg": "device",
        "d.jpg/": "folder",
        "real.jpg": "sparse",
        "odd.jpg": "unknown kind",
        "last.jpg": None,
    }
    assert [member.data for member in found] == [None] * 7 + [b"!"]
    assert damages == []


def test_old_sparse_files_are_stepped_over_with_their_map(tmp_path: Path) -> None:
    header = bytearray(tarfile.TarInfo("holes.jpg").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"00000001000\0"  # 512 bytes
    header[156:157], header[482] = b"S", 1
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    more_map = bytes(504) + b"\1" + bytes(7)
    last_map = bytes(512)
    raw = bytes(header) + more_map + last_map + b"d" * 512 + _tar([("after.jpg", b"!")])
    found, damages = _walked(tmp_path, raw)
    assert [(m.name, m.refused) for m in found] == [("holes.jpg", "sparse"), ("after.jpg", None)]
    assert damages == []


def test_sizes_beyond_octal_digits_are_read(tmp_path: Path) -> None:
    header = bytearray(_tar([("a.jpg", b"abc")])[:1024])
    header[124:136] = b"\x80" + (3).to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    found, _ = _walked(tmp_path, bytes(header) + bytes(1024))
    assert _files(found) == [("a.jpg", b"abc")]


def test_members_that_are_not_wanted_are_not_read(tmp_path: Path) -> None:
    found, damages = _walked(tmp_path, _tar([("a.skip", b"abc"), ("a.jpg", b"abc")]))
    assert [(member.size, member.data) for member in found] == [(3, None), (3, b"abc")]
    assert damages == []


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_no_bytes_stop_the_walk_and_what_is_yielded_lies_in_the_file(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    form = data.draw(st.sampled_from(_FORMATS))
    name = "n" * 120 + ".jpg" if form != tarfile.USTAR_FORMAT else "n.jpg"
    raw = bytearray(_tar([*_FILES, (name, b"w" * 30)], form))
    for _ in range(data.draw(st.integers(0, 6))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))
    kept = bytes(raw[:cut])
    found, _ = _walked(tmp_path_factory.mktemp("tar"), kept)
    for member in found:
        if member.data is not None:
            assert kept[member.offset : member.offset + member.size] == member.data
