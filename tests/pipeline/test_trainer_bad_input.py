"""What a training cannot be made of is told in a line that says what to change."""

import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from meters import Meter
from ranks_process import SMALL
from trainer_shards import pairs, write_shards

from jobs import walk
from jobs.run import Run
from pipeline.errors import BadInput
from pipeline.settings import LoaderSettings, Settings, TrainSettings
from pipeline.tokenizer import Tokenizer
from pipeline.trainer import architectures, checkpoint, loop, parallel
from pipeline.trainer.samples import Samples

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _small_model(monkeypatch):
    monkeypatch.setitem(architectures.ARCHITECTURES, "tiny", SMALL)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_shards(tmp_path_factory.mktemp("shards"), pairs(24))


@pytest.fixture
def samples(shards):
    return Samples(shards, LoaderSettings(workers=0))


def settings(**changes):
    fields = {"model": "tiny", "batch_size": 8, "epochs": 1.0, "device": "cpu"}
    return TrainSettings(**(fields | changes))


def trained(folder, samples, tokenizer=None, meter=None, **changes):
    folder.mkdir(exist_ok=True)
    cutter = tokenizer or Tokenizer([])
    return loop.train(folder, samples, cutter, settings(**changes), meter or Meter())


@pytest.mark.parametrize("index", [True, False])
def test_shards_without_captions_are_refused(tmp_path, index):
    blank = [(key, image, "") for key, image, _ in pairs(16)]
    where = write_shards(tmp_path / "blank", blank, index=index)
    with pytest.raises(BadInput, match="caption"):
        trained(tmp_path / "run", Samples(where, LoaderSettings(workers=0)))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"batch_size": 25}, "train.batch_size"),
        ({"model": "tiny-RN", "micro_batch_size": 4}, "train.split_batch_norm"),
        ({"save_every_steps": 2, "keep_every_steps": 3}, "train.keep_every_steps"),
        ({"sync_batch_norm": True}, "train.sync_batch_norm needs GPUs"),
        ({"weights": "/nowhere.pt"}, "/nowhere.pt does not exist"),
    ],
)
def test_settings_that_cannot_be_are_named(tmp_path, samples, changes, told):
    with pytest.raises(BadInput, match=told):
        trained(tmp_path, samples, **changes)
    assert checkpoint.latest(tmp_path) is None


def test_processes_that_would_each_train_alone_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(BadInput, match="torchrun --nproc-per-node"):
        parallel.here(settings())


def test_a_training_begins_with_the_weights_of_another(tmp_path, samples):
    trained(tmp_path / "first", samples)
    given = checkpoint.latest(tmp_path / "first")
    # The rate is 0 in the only step: what it began with is what it ends with.
    trained(tmp_path / "second", samples, weights=str(given), learning_rate=1e-30, seed=5)
    first, second = (
        checkpoint.load_model(checkpoint.latest(tmp_path / name))[0].state_dict()
        for name in ("first", "second")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_weights_of_another_model_or_vocabulary_are_refused(tmp_path, samples):
    trained(tmp_path / "first", samples)
    given = str(checkpoint.latest(tmp_path / "first"))
    with pytest.raises(BadInput, match=r"is a tiny: set train.model to that"):
        trained(tmp_path / "model", samples, weights=given, model="tiny-RN")
    merged = Tokenizer([("t", "h")])
    with pytest.raises(BadInput, match=r"knows 514 tokens, and the vocabulary has 515"):
        trained(tmp_path / "vocabulary", samples, merged, weights=given)
    other = Tokenizer([("t", "h")])
    trained(tmp_path / "other", samples, other)
    given = str(checkpoint.latest(tmp_path / "other"))
    with pytest.raises(BadInput, match="trained with another vocabulary"):
        trained(tmp_path / "again", samples, Tokenizer([("i", "n")]), weights=given)


def test_what_changes_only_the_pace_may_change_when_a_training_goes_on(tmp_path, samples):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    trained(whole, samples, save_every_steps=1)
    pace = {
        "micro_batch_size": 3,
        "loss_tile": 5,
        "text_groups": 3,
        "pool_last_block": False,
        "gradient_checkpointing": True,
        "cpu_threads": 1,
        "log_every_steps": 2,
        "keep_checkpoints": 5,
        "wait_seconds": 7,
        "parallel": "fsdp",
    }
    shutil.copytree(whole / "step_000000001", broken / "step_000000001")
    trained(broken, samples, **pace)
    first, second = (
        checkpoint.load_model(checkpoint.latest(folder))[0].state_dict()
        for folder in (whole, broken)
    )
    assert max((first[name] - second[name]).abs().max() for name in first) < 1e-4


@pytest.mark.parametrize(
    "changes",
    [
        {"warmup_steps": 7},
        {"weight_decay": 0.1},
        {"seed": 3},
        {"epochs": 2.0},
        {"max_grad_norm": 1},
    ],
)
def test_what_changes_the_weights_may_not_change_and_is_named(tmp_path, samples, changes):
    trained(tmp_path, samples)
    (key,) = changes
    with pytest.raises(BadInput, match=rf"{key} was .* and is .*--again"):
        trained(tmp_path, samples, **changes)


def test_a_training_that_is_asked_to_stop_saves_and_goes_on_to_the_same_bits(tmp_path, samples):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    trained(whole, samples)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(loop.Stopped, match="after step 2 of 3") as told:
        trained(broken, samples, meter=Meter(1, partial(os.kill, os.getpid(), signal.SIGTERM)))
    assert told.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) is before
    assert checkpoint.latest(broken).name == "step_000000002"
    trained(broken, samples)
    for file in ("model.safetensors", "optimizer.safetensors"):
        first, second = ((folder / "step_000000003" / file) for folder in (whole, broken))
        assert first.read_bytes() == second.read_bytes()


def test_where_memory_ends_it_is_told_what_to_lower_and_the_last_checkpoint_is_kept(
    tmp_path, shards
):
    script = ROOT / "tests/pipeline/out_of_memory.py"
    process = subprocess.run(
        [sys.executable, str(script), str(shards), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    first, said = process.stdout.splitlines()
    assert first == "interrupted"
    assert said.startswith("OutOfMemory: out of memory on cpu")
    assert "train.micro_batch_size to 8 (it is 24)" in said
    assert "train.gradient_checkpointing to true" in said
    assert checkpoint.latest(tmp_path).name == "step_000000001"


def test_shards_from_elsewhere_and_a_given_vocabulary_need_no_table(tmp_path, shards):
    Tokenizer([]).save(tmp_path / "merges.txt.gz")
    train = settings(shards=str(shards), vocabulary=str(tmp_path / "merges.txt.gz"))
    run = Run(tmp_path / "run", Settings(train=train, loader=LoaderSettings(workers=0)))
    run.root.mkdir()
    for verb in ("train-tokenizer", "train"):
        stage = walk.stage_of(verb)
        stage.make(run)
    assert run.manifest("checkpoints")["rows"] == 24
    assert stage.is_fresh(run)
    (shards / "_index.json").write_text("{}")  # notes come and go
    assert stage.is_fresh(run)
