"""pipeline.trainer.walked and pipeline.trainer.headers"""

import gzip
import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trainer_shards import Files, members, tar_of
from webdataset import TarWriter

from pipeline.errors import BadInput
from pipeline.trainer import walked
from pipeline.trainer.headers import samples_of
from pipeline.trainer.walked import walk, walk_carefully

_FORMATS = (tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)


def _lost(folder: Path, files: Files, form: int = tarfile.USTAR_FORMAT) -> tuple[list, dict]:
    path = folder / "a.tar"
    path.write_bytes(tar_of(files, form))
    walked = walk(path)
    return walked.rows.column("key").to_pylist(), walked.lost


@pytest.mark.parametrize("form", _FORMATS)
def test_what_cannot_be_learned_from_is_lost_by_its_reason(tmp_path: Path, form: int) -> None:
    files = [
        *members(["../../up", "0", "/root"]),
        ("1.txt", b"no image"),
        ("2.jpg", b"no caption"),
        ("3.jpg", b"an empty one"),
        ("3.txt", b""),
        *members(["4"]),
        ("4.txt", b"another"),
        *members(["0", "5"]),
        ("5.right.png", b"another image"),
        ("readme", b"no key"),
        ("6.jpg", b"what is told is no caption"),
        ("6.json", b'{"caption": 7}'),
        ("7.left.jpg", b"the second choice"),
        ("7.webp", b"the first"),
        ("7.json", b'{"caption": "told"}'),
    ]
    keys, lost = _lost(tmp_path, files, form)
    assert keys == ["../../up", "0", "/root", "4", "5", "7"]
    assert lost == {
        "a sample without an image": 1,
        "a sample without a caption": 3,
        "a member twice": 1,
        "a key twice": 1,
        "an image beside the first of its sample": 2,
        "a member without a key": 1,
    }
    row = walk(tmp_path / "a.tar").rows.to_pylist()[-1]
    raw = (tmp_path / "a.tar").read_bytes()
    assert raw[row["image"] :][: row["image_bytes"]] == b"the first"
    assert raw[row["caption"] :][: row["caption_bytes"]] == b'{"caption": "told"}'
    assert row["in_json"]


def test_of_a_key_that_comes_twice_the_first_sample_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of([("0.jpg", b"first"), ("0.txt", b"a"), *members(["1", "0"])]))
    row = walk(path).rows.to_pylist()[0]
    assert path.read_bytes()[row["image"] :][: row["image_bytes"]] == b"first"


def test_links_and_names_that_are_no_text_harm_nothing(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, kind in (("0.jpg", tarfile.SYMTYPE), ("d", tarfile.DIRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    odd = tar_of(members(["xx"])).replace(b"xx.", b"\xff\xfe.")
    path = tmp_path / "a.tar"
    path.write_bytes(stream.getvalue().rstrip(b"\0").ljust(1024, b"\0") + _sound(odd))
    walked = walk(path)
    assert walked.rows.column("key").to_pylist() == ["\\xff\\xfe"]
    assert walked.lost == {"a member that cannot be read: link": 1}


def _sound(raw: bytes) -> bytes:
    """`raw` with the checksums of its headers made right."""
    out = bytearray(raw)
    for at in range(0, len(raw), 512):
        if raw[at + 257 : at + 262] == b"ustar":
            out[at + 148 : at + 156] = b" " * 8
            out[at + 148 : at + 156] = b"%06o\0 " % sum(out[at : at + 512])
    return bytes(out)


def _is_plain(path: Path) -> bool:
    """Whether the short way reads it."""
    with path.open("rb") as file:
        return samples_of(file.fileno(), path.stat().st_size) is not None


def test_what_webdataset_writes_is_read_the_short_way(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with TarWriter(str(path)) as tar:  # it tells times in PAX headers
        for key in ("a/0", "a/1"):
            tar.write({"__key__": key, "jpg": b"image", "json": {"caption": key}, "txt": key})
    found = walk(path)
    assert _is_plain(path)
    assert found.rows.column("key").to_pylist() == ["a/0", "a/1"]
    assert found.lost == {}


def test_large_images_are_passed_over_and_many_samples_fit(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    sizes = [0, 1, 512, 65_535, 65_536, 70_000, 1_000_000, *[7] * 3000]
    files = [
        (f"{'k' * 40}{number}.{suffix}", b"x" * (size if suffix == "jpg" else 9))
        for number, size in enumerate(sizes)
        for suffix in ("jpg", "txt")
    ]
    path.write_bytes(tar_of(files))
    assert _is_plain(path)
    assert walk(path).rows.column("image_bytes").to_pylist() == sizes
    assert walk(path) == walk_carefully(path)


_KEYS = st.sampled_from(["0", "1", "a/b", "a.d/c", "./x", "_", "K" * 90, "d/" * 60 + "e", "é"])
_EXTENSIONS = st.sampled_from(
    [
        "jpg",
        "JPG",
        "txt",
        "json",
        "left.jpg",
        "b.txt",
        "webp",
        "cls",
        "tiffs",
        "",
        "seg.PNG",
        "avif",
    ]
)
_DATA = st.sampled_from([b"", b"x", b'{"caption": "a"}', b"{}", b"y" * 511, b"z" * 600])
_NAMED = st.builds("{}.{}".format, _KEYS, _EXTENSIONS) | st.sampled_from(["readme", ".x", "d/"])
_HARM = st.lists(
    st.tuples(st.integers(0, 20_000), st.integers(0, 255), st.sampled_from([1, 12, 512])),
    max_size=2,
)


@settings(deadline=None, max_examples=300)
@given(
    files=st.lists(st.tuples(_NAMED, _DATA), max_size=9),
    form=st.sampled_from(_FORMATS),
    time=st.sampled_from([0, 1.5]),
    harm=st.just([]) | _HARM,
    end=st.none() | st.integers(0, 20_000),
    behind=st.sampled_from([b"", b"\0" * 700, b"more", tar_of(members("q"))]),
)
def test_the_short_way_finds_what_the_careful_one_finds(
    tmp_path_factory: pytest.TempPathFactory,
    files: Files,
    form: int,
    time: float,
    harm: list[tuple[int, int, int]],
    end: int | None,
    behind: bytes,
) -> None:
    short = [(name[-90:] if form == tarfile.USTAR_FORMAT else name, data) for name, data in files]
    raw = bytearray(tar_of(short, form, time if form == tarfile.PAX_FORMAT else 0))
    for at, value, length in harm:
        raw[at : at + length] = bytes([value]) * len(raw[at : at + length])
    path = tmp_path_factory.getbasetemp() / "short.tar"
    path.write_bytes(bytes(raw[:end]) + behind)
    careful = walk_carefully(path)
    if path.read_bytes()[:2] != b"\x1f\x8b":
        assert walk(path) == careful


@pytest.mark.parametrize("size", [1, 300])
def test_a_sample_of_many_members_is_held_in_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(walked, "MAX_MEMBERS", 20)
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of([*members("0"), *[(f"0.{n}", b"") for n in range(size)]]))
    found = walk(path)
    assert found.rows.num_rows == 1
    assert sum(found.lost.values()) == max(0, size - 18)


def test_a_packed_tar_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(gzip.compress(tar_of(members("0"))))
    with pytest.raises(BadInput, match="gunzip"):
        walk(path)
