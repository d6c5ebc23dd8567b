"""Checkpoints: what is kept, what may go on from it, and what a kill or a full disk leaves."""

import json
import math
import threading
from dataclasses import replace

import pytest
import torch
from checkpoint_files import PARAMETERS, STATISTICS, WEIGHTS, saved, state, vouched_for
from safetensors.torch import load_file
from test_tars import largest_file

from pipeline.errors import BadInput
from pipeline.settings import TrainSettings
from pipeline.trainer import checkpoint, rng, tensor_files
from pipeline.trainer.architectures import ARCHITECTURES, Architecture
from pipeline.trainer.checkpoint import DamagedCheckpoint, NotSaved
from pipeline.trainer.model import build
from pipeline.trainer.optimizer import statistics
from pipeline.trainer.parallel import ALONE
from pipeline.trainer.saving import Saver
from pipeline.trainer.sharding import fill


# ---- what is kept --------------------------------------------------------------------------------
def test_a_checkpoint_gives_back_every_bit(tmp_path):
    path = saved(tmp_path, code="0.1.0", loss=math.pi)
    told = checkpoint.read_state(path)
    assert (told.step, told.loss, told.code, told.torch) == (3, math.pi, "0.1.0", torch.__version__)
    for found, kept in (
        (checkpoint.model_tensors(path, WEIGHTS), WEIGHTS),
        (checkpoint.optimizer_tensors(path, PARAMETERS), STATISTICS),
    ):
        assert found.keys() == kept.keys()
        assert all(torch.equal(found[name], kept[name]) for name in kept)


def test_safetensors_reads_what_is_written_without_it(tmp_path):
    kept = {
        "odd\nname": torch.randn(3, 5),
        "turned": torch.randn(4, 6).t(),
        "scalar": torch.tensor(-0.0),
        "none": torch.empty(0, 3),
        "small": torch.tensor([math.nan, math.inf], dtype=torch.bfloat16),
        "counts": torch.arange(3),
        "bytes": torch.arange(7, dtype=torch.uint8),
        "flags": torch.tensor([True, False]),
    }
    digest = tensor_files.write(kept, tmp_path / "file")
    assert digest == tensor_files.sha256(tmp_path / "file")
    found = load_file(tmp_path / "file")
    assert found.keys() == kept.keys()
    for name, tensor in kept.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].shape == tensor.shape
        assert torch.equal(found[name].nan_to_num(), tensor.nan_to_num())


def test_random_numbers_go_on_where_they_were(tmp_path):
    path = saved(tmp_path)
    expected = torch.rand(4)
    torch.manual_seed(0)
    rng.restore(checkpoint.rng_tensors(path))
    assert torch.equal(torch.rand(4), expected)


def test_each_rank_has_random_numbers_of_its_own_and_a_new_one_keeps_its_own():
    own = torch.get_rng_state()
    others = torch.Generator().manual_seed(5).get_state()
    kept = rng.states(lambda state: torch.cat([state, others]))
    assert set(kept) >= {"0/cpu", "1/cpu"}
    rng.restore(kept, rank=2)
    assert torch.equal(torch.get_rng_state(), own)
    rng.restore(kept, rank=1)
    assert torch.equal(torch.get_rng_state(), others)
    rng.restore(kept, rank=0)
    assert torch.equal(torch.get_rng_state(), own)


def test_the_newest_and_those_of_round_steps_are_kept(tmp_path):
    for step in range(10, 90, 10):
        saved(tmp_path, step, keep=2, keep_every=30)
    steps = [checkpoint.read_state(path).step for path in sorted(tmp_path.iterdir())]
    assert steps == [30, 60, 70, 80]


def test_what_killed_processes_left_is_removed_and_never_taken_for_a_checkpoint(tmp_path):
    saved(tmp_path, 3)
    for name in (".step_000000009", ".old_step_000000001"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"half")
    (tmp_path / ".vocabulary").mkdir()
    assert checkpoint.latest(tmp_path).name == "step_000000003"
    saved(tmp_path, 6)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [".vocabulary", "step_000000003", "step_000000006"]


def test_a_whole_checkpoint_of_the_same_step_stays_and_a_damaged_one_is_replaced(tmp_path):
    path = saved(tmp_path)
    before = (path / "model.safetensors").stat().st_ino
    saved(tmp_path)
    assert (path / "model.safetensors").stat().st_ino == before
    (path / "model.safetensors").write_bytes(b"damaged")
    saved(tmp_path)
    assert checkpoint.read_state(path).step == 3


def test_a_disk_that_is_full_leaves_the_last_checkpoint_and_is_named(tmp_path):
    good = saved(tmp_path)
    with largest_file(600), pytest.raises(NotSaved, match=r"step 6 could not be written.*keep_ch"):
        saved(tmp_path, 6, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == [good.name]
    assert checkpoint.read_state(good).step == 3


# ---- while training goes on ----------------------------------------------------------------------
def settings(**changes):
    return TrainSettings(**({"save_every_steps": 3, "keep_checkpoints": 9} | changes))


def test_what_is_learned_while_a_checkpoint_is_written_is_not_in_it(tmp_path, monkeypatch):
    go, real = threading.Event(), tensor_files.write

    def slow(tensors, file):
        assert go.wait(30)
        return real(tensors, file)

    monkeypatch.setattr(tensor_files, "write", slow)
    weights = {name: tensor.clone() for name, tensor in WEIGHTS.items()}
    with Saver(tmp_path, settings()) as saver:
        saver.save(weights, STATISTICS, rng.states(), state())
        weights["w"].zero_()
        assert checkpoint.latest(tmp_path) is None
        go.set()
    found = checkpoint.model_tensors(checkpoint.latest(tmp_path), WEIGHTS)
    assert torch.equal(found["w"], WEIGHTS["w"])


def test_the_end_waits_for_the_last_checkpoint(tmp_path):
    with Saver(tmp_path, settings()) as saver:
        for step in (3, 6, 9):
            saver.save(WEIGHTS, STATISTICS, rng.states(), state(step))
    assert sorted(path.name[-1] for path in tmp_path.iterdir()) == ["3", "6", "9"]


def test_a_full_disk_ends_the_training_at_the_next_checkpoint(tmp_path):
    with Saver(tmp_path, settings()) as saver, largest_file(600):
        saver.save(WEIGHTS, STATISTICS, rng.states(), state(3))
        with pytest.raises(NotSaved):
            saver.save(WEIGHTS, STATISTICS, rng.states(), state(6))


def test_an_error_of_the_training_is_not_hidden_by_one_of_the_disk(tmp_path):
    def broken():
        with largest_file(600), Saver(tmp_path, settings()) as saver:
            saver.save(WEIGHTS, STATISTICS, rng.states(), state(3))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken()


def test_steps_that_are_to_be_kept_must_be_saved(tmp_path):
    with pytest.raises(BadInput, match="keep_every_steps: 4 is no multiple"):
        Saver(tmp_path, settings(keep_every_steps=4))
    with Saver(tmp_path, settings(keep_every_steps=6)):
        pass


# ---- other trainings -----------------------------------------------------------------------------
def test_every_change_that_is_not_of_pace_is_named(tmp_path):
    changed = state().settings | {"batch_size": 8, "seed": 1}
    now = state(vocabulary=601, settings=changed)
    with pytest.raises(BadInput) as told:
        checkpoint.check_same(tmp_path, state(), now)
    for words in (
        "batch_size was 32768 and is 8",
        "seed was 0 and is 1",
        "vocabulary was 600 and is 601",
        "wit train --again",
    ):
        assert words in str(told.value)


def test_other_code_and_another_torch_may_go_on_and_are_told(tmp_path):
    found = state(code="0.1.0", torch="2.8.0")
    told = checkpoint.check_same(tmp_path, found, state(code="0.2.0"))
    assert told == ["code was 0.1.0 and is 0.2.0", f"torch was 2.8.0 and is {torch.__version__}"]
    same = replace(found, torch=torch.__version__)
    assert checkpoint.check_same(tmp_path, same, state(code="0.1.0")) == []


OLD_SETTINGS = {
    "model": "ViT-B/32",
    "batch_size": 32_768,
    "epochs": 32.0,
    "learning_rate": None,
    "warmup_steps": 2_000,
    "weight_decay": 0.2,
    "vocabulary": None,
    "merges": 48_894,
    "seed": 0,
    "window": 2_048,
}
"""All that the first format kept."""


def test_a_checkpoint_of_the_first_format_goes_on(tmp_path):
    path = saved(tmp_path)
    (path / "rng.safetensors").unlink()
    told = json.loads((path / "state.json").read_text())
    del told["code"], told["torch"], told["format"], told["sha256"]["rng.safetensors"]
    (path / "state.json").write_text(json.dumps(told | {"settings": OLD_SETTINGS}))
    found = checkpoint.read_state(path)
    assert (found.format, found.code) == (1, "unknown")
    assert checkpoint.rng_tensors(path) == {}
    assert checkpoint.check_same(path, found, state())[0] == "torch was unknown and is " + str(
        torch.__version__
    )
    now = state(settings=state().settings | {"max_grad_norm": 1.0})
    with pytest.raises(BadInput, match="max_grad_norm was None and is 1"):
        checkpoint.check_same(path, found, now)


def test_a_format_of_the_future_is_refused_with_the_version_that_wrote_it(tmp_path):
    path = saved(tmp_path, code="9.0.0")
    vouched_for(path, format=3)
    with pytest.raises(DamagedCheckpoint, match=r"of format 3, by version 9\.0\.0"):
        checkpoint.read_state(path)


# ---- a real optimizer ----------------------------------------------------------------------------
@pytest.mark.parametrize("fused", [False, True])
def test_an_optimizer_goes_on_as_if_it_had_never_stopped(tmp_path, monkeypatch, fused):
    small = Architecture(16, 32, (1,), 64, 16, 64, 1, 32)
    monkeypatch.setitem(ARCHITECTURES, "tiny", small)

    def stepped(model, optimizer, steps):
        for step in steps:
            chance = torch.Generator().manual_seed(step)
            for parameter in model.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=chance)
            optimizer.step()

    def made():
        model = build("tiny", 600, 0)
        return model, torch.optim.AdamW(model.parameters(), lr=0.01, fused=fused)

    whole, optimizer = made()
    stepped(whole, optimizer, range(4))
    broken, optimizer = made()
    stepped(broken, optimizer, range(2))
    flat = statistics(broken, optimizer)
    path = checkpoint.save(tmp_path, broken.state_dict(), flat, rng.states(), state(), 3)
    fresh, optimizer = made()
    checkpoint.restore_model(path, fresh)
    kept = checkpoint.optimizer_tensors(path, dict(fresh.named_parameters()))
    fill(statistics(fresh, optimizer), kept, ALONE)
    stepped(fresh, optimizer, range(2, 4))
    expected = whole.state_dict()
    assert all(torch.equal(t, expected[name]) for name, t in fresh.state_dict().items())
