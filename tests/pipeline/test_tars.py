"""pipeline.tars"""

import errno
import hashlib
import io
import resource
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import tars

_KEYS = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="./"))
_SIZES = st.one_of(st.integers(0, 1100), st.sampled_from([4095, 4096, 4097, 70_000, 1 << 20]))
_SAMPLES = st.dictionaries(
    _KEYS.filter(lambda key: 0 < len(key) <= 91),
    st.lists(_SIZES, min_size=1, max_size=3),
    max_size=6,
)


def _by_tarfile(members: list[tuple[str, bytes]]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


@given(samples=_SAMPLES)
@settings(deadline=None, max_examples=60)
def test_samples_are_the_bytes_that_tarfile_writes(
    samples: dict[str, list[int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("tar") / "a.tar"
    extensions = ("jpg", "txt", "json")
    members, offsets = [], []
    with tars.Writer(path, digest=True) as tar:
        for key, sizes in samples.items():
            sample = [
                (end, end[:1].encode() * n) for end, n in zip(extensions, sizes, strict=False)
            ]
            offsets += tar.add(key, sample)
            members += [(f"{key}.{end}", data) for end, data in sample]
    written = path.read_bytes()
    assert written == _by_tarfile(members)
    assert tar.size == len(written)
    assert tar.sha256 == hashlib.sha256(written).hexdigest()
    found = [written[at : at + len(data)] for at, (_, data) in zip(offsets, members, strict=True)]
    assert found == [data for _, data in members]


@given(
    name=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=100),
    size=st.integers(0, 1500),
)
@settings(deadline=None)
def test_a_single_member_is_the_bytes_that_tarfile_writes(name: str, size: int) -> None:
    stream = io.BytesIO()
    assert tars.append(stream, name, b"x" * size) == 512
    tars.close(stream)
    assert stream.getvalue() == _by_tarfile([(name, b"x" * size)])


def test_more_large_members_than_one_call_takes_are_all_written(tmp_path: Path) -> None:
    members = [(f"{number}", bytes([number % 256]) * 5000) for number in range(1200)]
    with tars.Writer(tmp_path / "a.tar") as tar:
        tar.add("a", members)
    named = [(f"a.{extension}", data) for extension, data in members]
    assert (tmp_path / "a.tar").read_bytes() == _by_tarfile(named)


@pytest.mark.parametrize("key", ["", "a.b", "../a", "a/b", "/a", "a\0", "é", "k" * 97])
def test_a_key_that_would_be_read_as_another_is_refused(key: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError), tars.Writer(tmp_path / "a.tar") as tar:  # noqa: PT011
        tar.add(key, [("jpg", b"")])


def test_a_name_of_a_hundred_bytes_fits_and_a_longer_one_is_refused(tmp_path: Path) -> None:
    with tars.Writer(tmp_path / "a.tar") as tar:
        tar.add("k" * 96, [("jpg", b"")])
        with pytest.raises(ValueError, match="name is too long"):
            tar.add("k" * 96, [("json", b"")])
    with pytest.raises(ValueError, match="name is too long"):
        tars.append(io.BytesIO(), "x" * 101, b"")


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process grows beyond `size`: a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room", [0, 1000, 30_001, (1 << 20) + 77])
def test_a_full_disk_is_an_error_behind_all_that_it_had_room_for(room: int, tmp_path: Path) -> None:
    def write(path: Path) -> None:
        with tars.Writer(path) as tar:
            for number in range(200):
                tar.add(f"{number}", [("jpg", bytes([number]) * 20_000), ("txt", b"text")])

    write(tmp_path / "whole.tar")
    with largest_file(room), pytest.raises(OSError) as error:  # noqa: PT011
        write(tmp_path / "short.tar")
    assert error.value.errno == errno.EFBIG
    assert (tmp_path / "short.tar").read_bytes() == (tmp_path / "whole.tar").read_bytes()[:room]
