"""pipeline.ingest.archives"""

import gzip
import random
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.ingest.archives import records_in

_CAP = 1 << 20
_BROKEN = "broken"


def _record(name: str, block: bytes = b"{}", kind: str = "metadata") -> bytes:
    head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {name}\r\n"
    return f"{head}Content-Length: {len(block)}\r\n\r\n".encode() + block + b"\r\n\r\n"


def _noise(number: int) -> bytes:
    """A block that hardly packs, so that a member is longer than its header."""
    return random.Random(number).randbytes(300)


_RECORDS = [_record(name, _noise(n)) for n, name in enumerate("abcde")]
_MEMBERS = [gzip.compress(record) for record in _RECORDS]


def _told(path: Path, data: bytes, cap: int = _CAP) -> list[str]:
    """Names of the records; a cut one with a minus, and each broken place."""
    path.write_bytes(data)
    found = records_in(str(path), {"metadata"}, cap)
    return [_BROKEN if r is None else f"{r.target}-" if r.is_cut else r.target for r in found]


@pytest.mark.parametrize(
    "data",
    [
        b"".join(_RECORDS),
        b"".join(_MEMBERS),
        gzip.compress(b"".join(_RECORDS)),
        # As pigz and bgzip pack: members end anywhere.
        b"".join(gzip.compress(b"".join(_RECORDS)[at : at + 99]) for at in range(0, 2500, 99)),
        b"".join(_MEMBERS) + bytes(700),
        b"".join(_RECORDS).replace(b"Content-Length: ", b"content-length:"),
    ],
    ids=["plain", "a member each", "one member", "members of 99 bytes", "zeros behind", "case"],
)
def test_records_are_read_however_a_file_is_packed(tmp_path: Path, data: bytes) -> None:
    assert _told(tmp_path / "x", data) == list("abcde")


def test_records_of_other_kinds_are_passed_over(tmp_path: Path) -> None:
    data = _record("q", kind="request") + _RECORDS[0] + _record("i", kind="warcinfo")
    assert _told(tmp_path / "x", data) == ["a"]


def test_a_broken_member_loses_itself_and_no_other(tmp_path: Path) -> None:
    # Behind the ten bytes of its header, of which some say nothing.
    for at in range(10, len(_MEMBERS[2]), 3):
        broken = bytearray(_MEMBERS[2])
        broken[at] ^= 0x55
        told = _told(tmp_path / "x", b"".join([*_MEMBERS[:2], bytes(broken), *_MEMBERS[3:]]))
        assert told[:2] == ["a", "b"], at
        assert _BROKEN in told, at
        assert told[-2:] == ["d", "e"], at


def test_a_cut_member_loses_itself_and_no_other(tmp_path: Path) -> None:
    for end in range(1, len(_MEMBERS[2]), 7):
        told = _told(tmp_path / "x", b"".join([*_MEMBERS[:2], _MEMBERS[2][:end], *_MEMBERS[3:]]))
        whole = [name for name in told if len(name) == 1]
        assert whole in (list("abde"), list("abcde")), end
        assert _BROKEN in told, end


def test_what_stands_before_a_break_in_one_long_member_is_read(tmp_path: Path) -> None:
    records = [_record(str(n), _noise(n)) for n in range(9000)]
    data = bytearray(gzip.compress(b"".join(records), 1))
    middle = len(data) // 2
    data[middle : middle + 4] = b"\xff" * 4
    told = _told(tmp_path / "x", bytes(data))
    assert told[:4400] == [str(n) for n in range(4400)]
    assert _BROKEN in told


def test_a_break_in_bytes_that_pack_well_repeats_no_record(tmp_path: Path) -> None:
    # So well that one read of the file is inflated in several pieces.
    records = [_record(f"{n:04d}", b"%04d" % n * 3000) for n in range(1500)]
    data = gzip.compress(b"".join(records), 9)
    for at in range(len(data) // 3, len(data) - 99, len(data) // 19):
        whole = len(zlib.decompressobj(31).decompress(data[:at])) // len(records[0])
        told = _told(tmp_path / "x", data[:at] + b"\xff" * 9 + data[at + 9 :])
        assert told[: whole - 1] == [f"{n:04d}" for n in range(whole - 1)], at
        assert set(told[whole + 2 :]) <= {_BROKEN}, at


def test_a_plain_file_goes_on_behind_bytes_that_are_no_record(tmp_path: Path) -> None:
    data = b"noise\n" + _RECORDS[0] + b"noise\r\n\r\n" + _RECORDS[1] + b"noise" + _RECORDS[2]
    assert _told(tmp_path / "x", data)[:4] == [_BROKEN, "a", _BROKEN, "b"]
    no_length = _RECORDS[1].replace(b"Content-Length", b"Content-Width")
    data = _RECORDS[0] + no_length + _RECORDS[2]
    assert _told(tmp_path / "x", data) == ["a", _BROKEN, "c"]


def test_a_length_that_lies_harms_only_its_member(tmp_path: Path) -> None:
    lying = gzip.compress(_RECORDS[1].replace(b"Length: ", b"Length: 9"))
    assert _told(tmp_path / "x", _MEMBERS[0] + lying + _MEMBERS[2]) == ["a", "b-", "c"]


@pytest.mark.parametrize("parts", [_RECORDS, _MEMBERS], ids=["plain", "gz"])
def test_a_file_that_ends_early_anywhere_is_told(tmp_path: Path, parts: list[bytes]) -> None:
    whole = b"".join(parts)
    for end in [0, *range(len(parts[0]) + 1, len(whole), 37)]:
        told = _told(tmp_path / "x", whole[:end])
        assert told[-1] == _BROKEN, end
        assert told.count(_BROKEN) == 1, end
        assert end == 0 or told[0] == "a", end


def test_a_block_is_held_up_to_its_cap(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(_record("long", b"x" * 5000) + _RECORDS[0])
    long, after = records_in(str(path), {"metadata"}, 100)
    assert long is not None
    assert (len(long.block), long.length, long.is_cut) == (100, 5000, False)
    assert after is not None
    assert after.target == "a"


def test_a_file_of_broken_members_is_given_up(tmp_path: Path) -> None:
    broken = _MEMBERS[0][:-9]
    told = _told(tmp_path / "x", broken * 3000)
    assert told.count(_BROKEN) == 1000


def test_headers_that_never_end_are_passed_over_together(tmp_path: Path) -> None:
    data = b"\nWARC/" * 50_000 + b"\n" + _RECORDS[0]
    # A few for so many, or each of them has been searched to the end of what a header may be.
    told = _told(tmp_path / "x", data)
    assert told.count(_BROKEN) < 10
    assert told[-1] == "a"


@settings(max_examples=200)
@given(st.binary() | st.lists(st.sampled_from([*_RECORDS, *_MEMBERS, b"\r\n"])).map(b"".join))
def test_no_bytes_stop_the_reader(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.warc"
    _told(path, data)
    _told(path, gzip.compress(data))
