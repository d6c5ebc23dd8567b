"""Hostile files of weights: refused with one line, without running anything or taking memory."""

import os
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import BadInput
from pipeline.trainer import weights
from tests.pipeline.weight_files import (
    Lying,
    Storage,
    model,
    numbers,
    pickled,
    write_archive,
    write_script,
)

_RAN: list[str] = []
_BYTES = {"data/0": numbers(64)}


class Call:
    """What a pickle that runs something looks like."""

    def __reduce__(self) -> Any:
        return _RAN.append, ("ran",)


def _tensor(length: int, offset: Any, shape: Any, strides: Any) -> bytes:
    return pickled({"a": Lying(Storage("0", length), offset, shape, strides)})


_PROGRAMS = {
    "a call": (pickled({"a": Call()}), "calls what has no name"),
    "a command": (b"cos\nsystem\n(S'touch ran'\ntR.", "holds no dictionary of weights"),
    "a call of what was made": (b"(dcos\nsystem\n)R)R.", "calls what has no name"),
    "an extension": (b"\x82\x01.", "uses the instruction EXT1"),
    "more numbers than bytes": (_tensor(65, 0, (65,), (1,)), "promises 65 numbers of `a`"),
    "an end behind the bytes": (_tensor(64, 32, (33,), (1,)), "ends behind its bytes"),
    "a stride out of it": (_tensor(64, 0, (2, 2), (64, 1)), "ends behind its bytes"),
    "much from one number": (_tensor(64, 0, (2**40,), (0,)), "elements lie in one another"),
    "rows in one another": (_tensor(64, 0, (8, 8), (2, 1)), "elements lie in one another"),
    "a negative stride": (_tensor(64, 63, (64,), (-1,)), "negative side, stride or offset"),
    "a negative length": (_tensor(-1, 0, (1,), (1,)), "ends behind its bytes"),
    "sides without strides": (_tensor(64, 0, (2, 2), (1,)), "2 sides and 1 strides"),
    "a side that is a text": (_tensor(64, 0, ("9",), (1,)), "damaged data.pkl"),
    "too many sides": (_tensor(64, 0, (1,) * 99, (1,) * 99), "99 sides"),
    "no such storage": (
        pickled({"a": Lying(Storage("7", 64), 0, (64,), (1,))}),
        "lacks its member data/7",
    ),
    "a way out of the zip": (
        pickled({"a": Lying(Storage("../version", 1), 0, (1,), (1,))}),
        "lacks its member data/../version",
    ),
    "a name that is no text for a terminal": (
        pickled({"\x1b[2J\n": Lying(Storage("0", 65), 0, (65,), (1,))}),
        r"promises 65 numbers of `\?\[2J `",
    ),
    "many from few": (
        pickled({f"a{n}": Lying(Storage("0", 64), 0, (64,), (1,)) for n in range(99)}),
        "bytes of tensors from",
    ),
    "nothing": (b"", "damaged data.pkl"),
    "half a pickle": (pickled({"a": 1})[:-3], "damaged data.pkl"),
    "a tensor without a storage": (
        b"ctorch._utils\n_rebuild_tensor_v2\n(I1\nI0\n(t(ttR.",
        "damaged data.pkl",
    ),
    "a whole object": (b"cmine\nModel\n)\x81}b.", "holds no dictionary of weights"),
    "a memo of great numbers": (b"]r\xff\xff\xff\x7f.", "asks for too much memory"),
}


@pytest.mark.parametrize("attack", _PROGRAMS)
def test_a_pickle_that_wants_more_than_tensors_gets_nothing(
    attack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    program, says = _PROGRAMS[attack]
    write_archive(tmp_path / "a.pt", program, _BYTES)
    with pytest.raises(BadInput, match=says) as told:
        weights.read(tmp_path / "a.pt", activation="gelu")
    assert (_RAN, [path.name for path in tmp_path.iterdir()]) == ([], ["a.pt"])
    assert str(told.value).isprintable()
    assert str(tmp_path / "a.pt") in str(told.value)


def _doubled(depth: int) -> bytes:
    """An object that holds one twice, and so on: as a tree it has 2 ** depth leaves."""
    program = b"c__torch__\nM\n)\x81q\x00"
    inner = b"c__torch__\nM\n)\x81}(X\x01\0\0\0aK\x01ub"
    for _ in range(depth):
        inner = b"c__torch__\nM\n)\x81}(X\x01\0\0\0a" + inner + b"q\x00X\x01\0\0\0bh\x00ub"
    return program + b"0" + inner + b"."


def test_a_script_that_nests_itself_is_refused(tmp_path: Path) -> None:
    for program in (_doubled(30), b"c__torch__\nM\n)\x81q\0}X\x01\0\0\0ah\0sb."):
        write_archive(tmp_path / "a.pt", program, {**_BYTES, "constants.pkl": b""})
        with pytest.raises(BadInput, match="nests more modules than a model has"):
            weights.read(tmp_path / "a.pt")


def test_packed_members_are_not_unpacked(tmp_path: Path) -> None:
    lying = pickled({"a": Lying(Storage("0", 2**26), 0, (2**26,), (1,))})
    path = tmp_path / "a.pt"
    write_archive(path, lying, {"data/0": bytes(2**28)}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(BadInput, match="has packed its member data"):
        weights.read(path)


def _two_names(path: Path) -> None:
    write_archive(path, _tensor(64, 0, (64,), (1,)), _BYTES)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"archive/data/0", b"archive/data.pkl"[:14]))
    with zipfile.ZipFile(path, "a") as out:
        out.writestr("archive/version", b"3")
        with pytest.warns(UserWarning, match="Duplicate"):
            out.writestr("archive/version", b"3")


def _two_roots(path: Path) -> None:
    write_archive(path, _tensor(64, 0, (64,), (1,)), _BYTES)
    with zipfile.ZipFile(path, "a") as out:
        out.writestr("other/data.pkl", b".")


def _long_list(path: Path) -> None:
    write_archive(path, _tensor(64, 0, (64,), (1,)), _BYTES)
    data = bytearray(path.read_bytes())
    end = data.rindex(b"PK\5\6")
    # The list of members is said to be as long as a gigabyte that precedes the end.
    struct.pack_into("<II", data, end + 12, 2**30, 0)
    path.write_bytes(data[:end] + bytes(2**20) + data[end:])
    os.truncate(path, len(data) + 2**20)


def _false_length(path: Path) -> None:
    write_archive(path, _tensor(2**20, 0, (2**20,), (1,)), _BYTES)
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\1\2")
    struct.pack_into("<II", data, entry + 20, 2**22, 2**22)
    path.write_bytes(data)


def _cut(path: Path) -> None:
    write_archive(path, _tensor(64, 0, (64,), (1,)), _BYTES)
    path.write_bytes(path.read_bytes()[:-40])


def _old(path: Path) -> None:
    torch.save({"a": torch.zeros(3)}, path, _use_new_zipfile_serialization=False)


def _before(path: Path) -> None:
    write_archive(path, _tensor(64, 0, (64,), (1,)), _BYTES)
    data = bytearray(path.read_bytes())
    end = data.rindex(b"PK\5\6")
    # The list of members is said to begin later than it does: so all members begin earlier.
    struct.pack_into("<I", data, end + 16, 2**20)
    path.write_bytes(data)


def _big_endian(path: Path) -> None:
    write_archive(path, _tensor(64, 0, (64,), (1,)), {**_BYTES, "byteorder": b"big"})


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (_two_names, "has two members of one name"),
        (_two_roots, "has 2 members data.pkl"),
        (_long_list, "is no whole torch archive"),
        (_false_length, "makes 4,194,304 bytes of tensors from"),
        (_cut, "is no whole torch archive"),
        (_old, "neither safetensors nor a zip"),
        (_before, "begins before the file"),
        (_big_endian, "bytes are in another order"),
        (lambda path: path.write_bytes(b""), "neither safetensors nor a zip"),
        (lambda path: path.write_bytes(b"PK\5\6" + bytes(18)), "0 members data.pkl"),
        (lambda path: path.write_bytes(pickle.dumps(Call())), "neither safetensors nor a zip"),
    ],
)
def test_a_zip_that_lies_is_refused(
    write: Callable[[Path], None], says: str, tmp_path: Path
) -> None:
    write(tmp_path / "a.pt")
    with pytest.raises(BadInput, match=says):
        weights.read(tmp_path / "a.pt", activation="gelu")
    assert _RAN == []


def test_safetensors_whose_header_promises_terabytes_are_refused(tmp_path: Path) -> None:
    for header in (b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4]}}', b"{"):
        data = struct.pack("<Q", len(header)) + header + bytes(4)
        (tmp_path / "a.safetensors").write_bytes(data)
        with pytest.raises(BadInput, match="cannot be read"):
            weights.read(tmp_path / "a.safetensors", activation="gelu")
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}")
    with pytest.raises(BadInput, match="cannot be read"):
        weights.read(tmp_path / "a.safetensors", activation="gelu")


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("script") / "a.pt"
    write_script(path, model())
    return path


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 2), st.integers(-300, 3000), st.binary(min_size=1, max_size=4))
def test_any_bytes_changed_give_weights_or_a_word(
    script: Path, tmp_path_factory: pytest.TempPathFactory, near: int, away: int, changed: bytes
) -> None:
    whole = script.read_bytes()
    broken = bytearray(whole)
    places = [whole.index(b"data.pkl") + 40, whole.rindex(b"PK\1\2"), len(whole) - 60]
    for offset, byte in enumerate(changed):
        broken[(places[near] + away + offset) % len(broken)] = byte
    path = tmp_path_factory.mktemp("broken") / "a.pt"
    path.write_bytes(broken)
    told = ""
    try:
        weights.read(path)
    except BadInput as error:
        told = str(error)
    assert told.isprintable()


def test_nothing_of_a_script_s_code_is_compiled(script: Path) -> None:
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.jit, "load", None)
        patch.setattr(torch, "load", None)
        patch.setattr(pickle, "Unpickler", None)
        assert weights.read(script).model == "tiny"
    assert not {name for name in set(sys.modules) - before if "__torch__" in name}
