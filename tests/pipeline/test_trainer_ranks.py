"""Ranks: processes that train together learn what one alone learns, and end together."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import ranks_process
import torch
from checkpoint_files import vouched_for
from meters import Meter
from safetensors.torch import load_file, save_file
from trainer_shards import pairs, write_shards

from pipeline.settings import LoaderSettings
from pipeline.trainer import architectures, checkpoint
from pipeline.trainer.parallel import ALONE
from pipeline.trainer.samples import Samples

ROOT = Path(__file__).parents[2]
KINDS = ("ddp", "fsdp")


def torchrun(*told):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, *map(str, told)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_shards(tmp_path_factory.mktemp("shards"), pairs(24))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, shards):
    """What two processes made, and one alone."""
    folder = tmp_path_factory.mktemp("trained")
    samples = Samples(shards, LoaderSettings(workers=0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(architectures.ARCHITECTURES, "tiny", ranks_process.SMALL)
        ended = ranks_process.ended(folder / "alone", samples, ALONE, Meter())
        assert ended == "done"
        _make_infinite(folder / "alone" / "step_000000003", folder / "infinite")
    process = torchrun(ROOT / "tests/pipeline/ranks_process.py", shards, folder)
    assert process.returncode == 0, process.stderr[-3000:]
    return folder


def _make_infinite(source, folder):
    place = folder / source.name
    shutil.copytree(source, place)
    weights = load_file(place / "model.safetensors")
    weights["text_projection"].fill_(torch.inf)
    save_file(weights, place / "model.safetensors")
    vouched_for(place)


@pytest.fixture(scope="module")
def found(folder):
    return json.loads((folder / "found.json").read_text())


def weights(folder, step=9):
    return load_file(folder / f"step_{step:09d}" / "model.safetensors")


def length(tensors):
    return torch.stack([tensor.float().norm() for tensor in tensors]).norm().item()


def strayed(trained, folder):
    """How far `trained` is from the one that trained alone, of what that one learned meanwhile.

    AdamW makes large steps of small gradients, and so of their rounding.
    """
    alone, early = weights(folder / "alone"), weights(folder / "alone", 3)
    assert trained.keys() == alone.keys()
    moved = length(alone[name] - early[name] for name in alone)
    assert moved > 0.1
    return length(alone[name] - trained[name] for name in alone) / moved


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_learn_what_one_learns(folder, found, kind):
    assert found[f"{kind}-whole"] == "done"
    assert strayed(weights(folder / f"{kind}-whole"), folder) < 3e-3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["whole", "sparing"])
def test_every_gradient_of_two_processes_is_that_of_one(folder, kind, how):
    alone, shared = (
        load_file(folder / each / "step_000000003" / "optimizer.safetensors")
        for each in ("alone", f"{kind}-{how}")
    )
    assert alone.keys() == shared.keys()
    for each in alone:
        apart = length([alone[each] - shared[each]])
        assert apart <= 1e-3 * length([alone[each]]), each


@pytest.mark.parametrize("kind", KINDS)
def test_what_spares_memory_changes_nothing_that_is_learned(folder, found, kind):
    assert found[f"{kind}-sparing"] == "done"
    assert strayed(weights(folder / f"{kind}-sparing"), folder) < 3e-3


@pytest.mark.parametrize("kind", KINDS)
def test_one_process_that_is_asked_to_stop_stops_both_and_they_go_on_to_the_same_bits(
    folder, found, kind
):
    told = found[f"{kind}-broken"]
    assert told.startswith("Stopped: stopped after step ")
    assert 4 <= found[f"{kind}-broken-at"] < 9
    assert found[f"{kind}-broken-again"] == "done"
    whole, broken = folder / f"{kind}-whole", folder / f"{kind}-broken"
    stopped = broken / f"step_{found[f'{kind}-broken-at']:09d}"
    assert checkpoint.read_state(stopped).step == found[f"{kind}-broken-at"]
    for file in ("model.safetensors", "optimizer.safetensors"):
        one, other = (load_file(each / "step_000000009" / file) for each in (whole, broken))
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    "name", ["ddp-whole-then-fsdp", "fsdp-whole-then-ddp", "alone-then-ddp", "alone-then-fsdp"]
)
def test_a_run_goes_on_with_other_processes_or_another_way_of_sharing(folder, found, name):
    assert found[name] == "done"
    assert strayed(weights(folder / name), folder) < 3e-3


@pytest.mark.parametrize("kind", KINDS)
def test_what_two_processes_saved_one_goes_on_from(folder, shards, kind, tmp_path, monkeypatch):
    monkeypatch.setitem(architectures.ARCHITECTURES, "tiny", ranks_process.SMALL)
    shutil.copytree(folder / f"{kind}-whole" / "step_000000006", tmp_path / "step_000000006")
    samples = Samples(shards, LoaderSettings(workers=0))
    assert ranks_process.ended(tmp_path, samples, ALONE, Meter()) == "done"
    assert strayed(weights(tmp_path), folder) < 3e-3


@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_that_is_no_number_stops_both_and_names_the_pairs_of_both(folder, found, kind):
    first, second = found[f"{kind}-infinite"]
    assert first == second
    assert first.startswith("NotFinite: step 3: the loss is nan")
    noted = json.loads((folder / f"{kind}-infinite" / "not_finite.json").read_text())
    assert noted["step"] == 3
    assert len(set(noted["pair_ids"])) == 8
    assert checkpoint.latest(folder / f"{kind}-infinite").name == "step_000000003"


def test_the_first_process_alone_writes_lines_of_metrics(folder):
    lines = (folder / "ddp-whole" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2, 4, 6, 8, 9]


def test_all_wait_for_the_process_whose_data_come_last(folder, found):
    assert found["late"] == "done"
    told = (folder / "late" / "metrics.jsonl").read_text().splitlines()
    assert all(json.loads(line)["data_share"] > 0.5 for line in told)


def test_settings_that_need_other_processes_are_named(found):
    assert found["odd"].startswith("BadInput: train.batch_size: 7 rows cannot be shared evenly")
    assert found["sync"].startswith("BadInput: train.sync_batch_norm needs GPUs")
