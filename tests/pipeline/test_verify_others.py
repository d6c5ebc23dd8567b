"""pipeline.verify: shards that somebody else made, and hostile ones"""

import io
import os
import struct
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from pipeline.errors import BadInput
from pipeline.verify.findings import Findings
from pipeline.verify.folder import look
from pipeline.verify.shards import Task, verify
from tests.pipeline import verify_shards as made
from tests.pipeline.verify_shards import kinds

NOISY = made.jpeg(7, 96)


def _foreign(folder: Path, samples: list[list[made.Member]], form: int) -> Path:
    folder.mkdir(exist_ok=True)
    with tarfile.open(folder / "0.tar", "w", format=form) as tar:
        for name, data in [member for sample in samples for member in sample]:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1.5 if form == tarfile.PAX_FORMAT else 1
            tar.addfile(info, io.BytesIO(data))
    return folder


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_webdataset_of_others_is_whole_in_every_form_of_tar(tmp_path: Path, form: int) -> None:
    png = io.BytesIO()
    Image.new("RGB", (9, 9)).save(png, "PNG")
    long = "x" * (40 if form == tarfile.USTAR_FORMAT else 140)
    samples = [
        [("a/0.png", png.getvalue()), ("a/0.txt", b"one")],
        [(f"{long}.JPG", NOISY), (f"{long}.cls", b"3"), (f"{long}.json", b'{"caption": "two"}')],
    ]
    assert kinds(_foreign(tmp_path / "theirs", samples, form)) == {}


def test_samples_of_others_need_an_image_and_a_caption(tmp_path: Path) -> None:
    samples: list[list[made.Member]] = [
        [("0.jpg", NOISY)],
        [("1.txt", b"no image")],
        [("2.jpg", b"none"), ("2.txt", b"\xff")],
        [("__note__", b"")],
    ]
    assert kinds(_foreign(tmp_path / "theirs", samples, tarfile.USTAR_FORMAT)) == {
        "a sample without a caption": 1,
        "a sample without an image": 1,
        "an image that is undecodable": 1,
        "a caption that is not UTF-8": 1,
        "a member of no sample": 1,
    }


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_told_and_followed_nowhere(tmp_path: Path, kind: bytes) -> None:
    folder = _foreign(tmp_path / "theirs", [[("0.jpg", NOISY), ("0.txt", b"x")]], 0)
    with tarfile.open(folder / "0.tar", "a") as tar:
        info = tarfile.TarInfo("1.txt")
        info.type, info.linkname = kind, "/etc/hostname"
        tar.addfile(info)
    told = "device" if kind == tarfile.CHRTYPE else "link"
    assert kinds(folder) == {f"a member that is no file: {told}": 1}


def test_an_archive_in_gzip_is_not_unpacked(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    with tarfile.open(tmp_path / "theirs" / "0.tar", "w:gz") as tar:
        info = tarfile.TarInfo("0.txt")
        info.size = 1 << 20
        tar.addfile(info, io.BytesIO(bytes(info.size)))
    found = kinds(tmp_path / "theirs")
    assert found["packed in gzip"] == 1
    assert found["a sample without an image"] == 0


def test_what_a_sparse_member_claims_is_never_unfolded(tmp_path: Path) -> None:
    folder = _foreign(tmp_path / "theirs", [[("0.jpg", NOISY), ("0.txt", b"x")]], 0)
    claimed = 1 << 40
    records = [("GNU.sparse.map", "0,0"), ("GNU.sparse.size", str(claimed))]
    body = b"".join(_record(*record) for record in records)
    info = tarfile.TarInfo("global")
    info.size, info.type = len(body), tarfile.XGLTYPE
    header = info.tobuf(tarfile.USTAR_FORMAT)
    path = folder / "0.tar"
    path.write_bytes(header + body.ljust(512, b"\0") + path.read_bytes())
    with tarfile.open(path) as tar:
        assert max(member.size for member in tar) == claimed
    assert kinds(folder) == {"webdataset reads other samples": 1}


def _record(name: str, value: str) -> bytes:
    rest = f" {name}={value}\n".encode()
    return f"{len(rest) + 2}".encode() + rest


def test_a_size_beyond_the_archive_costs_that_member_alone(tmp_path: Path) -> None:
    samples = [[(f"{n}.jpg", NOISY), (f"{n}.txt", b"x")] for n in range(3)]
    folder = _foreign(tmp_path / "theirs", samples, tarfile.USTAR_FORMAT)
    _claim(folder / "0.tar", b"0")
    found = kinds(folder)
    assert found["a damaged archive"] == 1
    assert found["a sample without an image"] == 1
    assert verify(Task(str(folder), "0.tar", None, False)).samples == 3


def test_a_header_longer_than_memory_is_told_and_not_read(tmp_path: Path) -> None:
    samples = [[(f"{n}.jpg", NOISY), (f"{n}.txt", b"x")] for n in range(3)]
    folder = _foreign(tmp_path / "theirs", samples, tarfile.USTAR_FORMAT)
    _claim(folder / "0.tar", b"x")
    found = kinds(folder)
    assert found["a damaged archive"] >= 1
    assert found["webdataset reads other samples"] == 1


def _claim(path: Path, kind: bytes) -> None:
    """Let the first member be of a `kind`, and have a size that no file has."""
    raw = bytearray(path.read_bytes())
    raw[124:136], raw[156:157] = b"\x80" + struct.pack(">3xq", 1 << 50), kind
    block = bytes(raw[:148]) + b" " * 8 + bytes(raw[156:512])
    raw[148:156] = b"%06o\0 " % sum(block)
    path.write_bytes(raw)


def test_names_are_no_commands_and_no_patterns(tmp_path: Path) -> None:
    folder = _foreign(tmp_path / "theirs", [[("0.jpg", NOISY), ("0.txt", b"x")]], 0)
    (folder / "0.tar").rename(folder / "pipe:touch {a,b}::$HOME.tar")
    assert kinds(folder) == {}


def test_a_pipe_among_the_shards_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "0.tar")
    assert kinds(tmp_path) == {"no such shard": 1}


def test_a_folder_without_tars_is_a_mistake_of_use(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="holds no tar"):
        look(tmp_path, Findings())
