"""Checkpoints of strangers: refused in one line, in little memory, and nothing of them is run."""

import json
import math
import resource
import struct

import pytest
import torch
from checkpoint_files import PARAMETERS, STATISTICS, WEIGHTS, saved, state, vouched_for
from safetensors.torch import save_file

from pipeline.errors import BadInput
from pipeline.trainer import checkpoint, rng, tensor_files
from pipeline.trainer.checkpoint import DamagedCheckpoint
from pipeline.trainer.tensor_files import UnreadableTensors

DEEP = b"[" * 200_000
HEADERS = {
    "header longer than the file": struct.pack("<Q", 1 << 62) + b"{}",
    "header of a hundred gigabytes": struct.pack("<Q", 100 << 30) + b"{}" * 10,
    "deep": struct.pack("<Q", len(DEEP)) + DEEP,
    "empty": b"",
    "short": b"\1\2",
    "no json": struct.pack("<Q", 8) + b"\x80\x05spickl",
}


def _claiming(**told):
    header = json.dumps({"w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]} | told})
    return struct.pack("<Q", len(header)) + header.encode() + bytes(24)


HEADERS |= {
    "offsets behind the end": _claiming(data_offsets=[0, 1 << 50]),
    "negative offsets": _claiming(data_offsets=[-24, 0]),
    "no numbers": _claiming(data_offsets=[math.nan, math.nan]),
    "a giant shape": _claiming(shape=[1 << 40, 1 << 40]),
    "a shape that wraps around": _claiming(shape=[1 << 63, 2, 6]),
    "no shape": _claiming(shape=[math.nan]),
    "an unknown type": _claiming(dtype="OBJECT"),
    "a type of half a byte": _claiming(dtype="F4", shape=[48]),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_hostile_header_is_refused_in_one_line_and_in_little_memory(tmp_path, name):
    path = saved(tmp_path)
    (path / "model.safetensors").write_bytes(HEADERS[name])
    vouched_for(path)
    assert checkpoint.read_state(path).step == 3
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DamagedCheckpoint) as told:
        checkpoint.model_tensors(path, WEIGHTS)
    assert str(told.value).isprintable()
    assert len(str(told.value)) < 500 + len(str(path))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 500_000,
        b'{"a":' * 150_000,
        b"{}" + b" " * (2 << 20),
        b"null",
        b"\xff\xfe",
        b'{"sha256": 3}',
        b'{"step": NaN}',
    ],
    ids=["deep", "deep objects", "large", "null", "bytes", "digests", "nan"],
)
def test_a_hostile_state_is_refused_in_one_line(tmp_path, raw):
    path = saved(tmp_path)
    (path / "state.json").write_bytes(raw)
    with pytest.raises(DamagedCheckpoint) as told:
        checkpoint.read_state(path)
    assert str(told.value).isprintable()


@pytest.mark.parametrize("changes", [{"step": math.nan}, {"sha256": None}, {"format": 0}])
def test_a_state_with_impossible_values_is_refused(tmp_path, changes):
    path = saved(tmp_path)
    told = json.loads((path / "state.json").read_text()) | changes
    (path / "state.json").write_text(json.dumps(told))
    with pytest.raises(DamagedCheckpoint):
        checkpoint.read_state(path)


def test_names_cannot_write_into_the_terminal(tmp_path):
    save_file({"w\n\x1b[2J": WEIGHTS["w"]}, tmp_path / "file")
    with pytest.raises(UnreadableTensors) as told:
        tensor_files.fitting(tensor_files.read(tmp_path / "file"), {})
    assert str(told.value).isprintable()


def test_weights_of_another_precision_are_converted_and_those_of_another_kind_refused():
    half = {name: t.bfloat16() if t.is_floating_point() else t for name, t in WEIGHTS.items()}
    found = tensor_files.fitting(half, WEIGHTS)
    assert {name: t.dtype for name, t in found.items()} == {n: t.dtype for n, t in WEIGHTS.items()}
    assert torch.equal(found["w"], WEIGHTS["w"])
    for odd in ({"w": WEIGHTS["w"].int()}, {"running": torch.tensor(3.0)}, {"w": torch.ones(3, 2)}):
        with pytest.raises(UnreadableTensors, match=f"1 differ, `{next(iter(odd))}`"):
            tensor_files.fitting(WEIGHTS | odd, WEIGHTS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"v/exp_avg": torch.ones(2, 3)}, "holds `v/exp_avg`"),
        ({"w/exp_avg": torch.ones(2, 2)}, "holds `w/exp_avg`"),
        ({"w/exp_avg": torch.ones(2, 3).int()}, "holds `w/exp_avg`"),
        ({"w": torch.ones(2, 3)}, "holds `w`"),
    ],
)
def test_statistics_of_another_model_are_refused(tmp_path, change, words):
    path = checkpoint.save(tmp_path, WEIGHTS, STATISTICS | change, rng.states(), state(), 3)
    with pytest.raises(DamagedCheckpoint, match=words):
        checkpoint.optimizer_tensors(path, PARAMETERS)


def test_random_numbers_of_no_use_are_refused():
    with pytest.raises(BadInput, match="random numbers"):
        rng.restore({"0/cpu": torch.zeros(3, dtype=torch.uint8)})
    with pytest.raises(BadInput, match="random numbers"):
        rng.restore({"0/cpu": torch.zeros(5056)})
