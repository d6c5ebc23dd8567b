"""Instruments: what is told is what was measured, and a resumed training tells it once."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline.errors import BadInput
from pipeline.settings import TrainSettings
from pipeline.trainer import instruments, sinks
from pipeline.trainer.instruments import Instruments, peak_tflops, sentence

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(instruments.time, "perf_counter", lambda: self.now)


def made(folder, first=0, flops=1e9, ranks=1, is_writing=True, **changes):
    return Instruments(
        folder,
        TrainSettings(**changes),
        flops_per_pair=flops,
        device=CPU,
        ranks=ranks,
        first=first,
        is_writing=is_writing,
    )


def logged(folder):
    return [json.loads(line) for line in (folder / sinks.METRICS).read_text().splitlines()]


def test_a_line_tells_the_speed_and_the_waiting_since_the_line_before(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)
    with made(tmp_path, flops=2e9, ranks=2, peak_tflops=0.5) as told:
        clock.now += 50
        told.step(1000, 40.0)
        told.log(1, 5.0, 1e-3, 14.0, 2.0)
        for _ in range(2):
            clock.now += 2
            told.step(1000, 0.5)
        line = told.log(3, 4.0, 2e-3, 15.0, 1.0)
    assert line == logged(tmp_path)[1]
    assert line.pop("peak_memory_bytes") > 1e6
    assert line == {
        "step": 3,
        "loss": 4.0,
        "lr": 2e-3,
        "logit_scale": 15.0,
        "grad_norm": 1.0,
        "pairs_per_second": 500.0,
        # 500 pairs of 2 GFLOP, of two GPUs that could do 1 TFLOP together.
        "mfu": 1.0,
        "data_share": 0.25,
        "seconds": 54.0,
    }


def test_on_a_cpu_there_is_no_mfu(tmp_path):
    with made(tmp_path) as told:
        told.step(8, 0.0)
        line = told.log(1, 5.0, 1e-3, 14.0, 2.0)
    assert line["mfu"] is None
    assert "MFU" not in sentence(line)


def test_a_person_reads_what_the_line_holds(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)
    with made(tmp_path, peak_tflops=10.0) as told:
        clock.now += 4
        told.step(8192, 1.0)
        text = sentence(told.log(1200, 3.25, 5e-4, 21.5, 0.75))
    assert text.startswith("step 1,200, loss 3.2500, lr 5.00e-04, scale 21.50, gradient 0.750, ")
    assert "2,048 pairs/s, MFU 20.5%, 25.0% waiting for data, " in text


def test_other_processes_measure_and_write_nothing(tmp_path):
    with made(tmp_path, is_writing=False, tensorboard=True, wandb_project="none") as told:
        told.step(8, 0.0)
        assert told.log(1, 5.0, 1e-3, 14.0, 2.0)["step"] == 1
    assert not list(tmp_path.iterdir())


def test_a_resumed_training_forgets_the_lines_behind_its_checkpoint(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)

    def run(first, steps):
        with made(tmp_path, first) as told:
            for step in steps:
                clock.now += 10
                told.step(8, 0.0)
                told.log(step, 1.0 / step, 1e-3, 14.0, 2.0)

    run(0, (2, 4, 6))
    with (tmp_path / sinks.METRICS).open("ab") as file:
        file.write(b'{"step": 8, "lo')
    run(4, (6, 8))
    assert [(line["step"], line["seconds"]) for line in logged(tmp_path)] == [
        (2, 10.0),
        (4, 20.0),
        (6, 30.0),
        (8, 40.0),
    ]
    run(0, (2,))
    assert [line["step"] for line in logged(tmp_path)] == [2]


HOSTILE = [
    b"\xff\xfe\n",
    b"[" * 100_000 + b"\n",
    b'{"step": true}\n',
    b'{"step": NaN}\n',
    b'{"step": 1e9}\n',
    b'{"step": -1}\n',
    b'{"step": 1' + b"0" * 5000 + b"}\n",
    b'["step"]\n',
    b"null\n\n",
    b'{"step": 3, "loss": "' + b"x" * 200_000 + b'"}\n',
]


def test_lines_that_cannot_be_read_are_passed_over(tmp_path):
    path = tmp_path / sinks.METRICS
    good = [b'{"step": 1, "loss": 2.0}\n', b'{"step": 2, "loss": NaN}\n']
    path.write_bytes(good[0] + b"".join(HOSTILE) + good[1] + b'{"step": 3, "lo')
    assert [line["step"] for line in sinks.lines_of(path)] == [1, 2]
    made(tmp_path, first=2).close()
    assert path.read_bytes() == b"".join(good)


def test_a_process_that_is_killed_while_lines_are_cut_leaves_all_or_none(tmp_path, monkeypatch):
    with made(tmp_path) as told:
        told.step(8, 0.0)
        told.log(1, 5.0, 1e-3, 14.0, 2.0)
    before = (tmp_path / sinks.METRICS).read_bytes()

    def killed(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path, first=1)
    assert (tmp_path / sinks.METRICS).read_bytes() == before


def test_tensorboard_shows_each_step_once_though_the_training_was_resumed(tmp_path):
    for first, steps in ((0, (2, 4, 6)), (4, (6, 8))):
        with made(tmp_path, first, tensorboard=True) as told:
            for step in steps:
                told.step(8, 0.0)
                told.log(step, first + 1.0 / step, 1e-3, 14.0, math.inf)
    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    curve = [(event.step, event.value) for event in found.Scalars("train/loss")]
    assert curve == [(2, 0.5), (4, 0.25), (6, pytest.approx(4 + 1 / 6)), (8, 4.125)]
    # Neither what is not known nor what is no number has a curve.
    assert not {"train/mfu", "train/grad_norm"}.intersection(found.Tags()["scalars"])


def test_tensorboard_that_is_missing_is_told_before_the_training(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(BadInput, match=r"train\.tensorboard.*not installed"):
        made(tmp_path, tensorboard=True)


def test_wandb_that_is_missing_is_told_before_the_training(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(BadInput, match=r"train\.wandb_project.*not installed"):
        made(tmp_path, wandb_project="p")


WANDB = """
import sys, torch
from pathlib import Path
from pipeline.errors import BadInput
from pipeline.settings import TrainSettings
from pipeline.trainer.instruments import Instruments

folder, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
settings = TrainSettings(wandb_project="drawn")
try:
    with Instruments(folder, settings, flops_per_pair=1e9, device=torch.device("cpu"),
                     first=first) as told:
        for step in range(first + 1, last + 1):
            told.step(8, 0.0)
            told.log(step, 1.0 / step, 1e-3, 14.0, 2.0)
except BadInput as error:
    print("refused:", error)
"""


def _wandb(folder, home, *numbers, mode):
    # Whatever it would send goes to a port of this machine at which nobody listens.
    nowhere = "http://127.0.0.1:9"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "WANDB_MODE": mode,
        "WANDB_BASE_URL": nowhere,
        "WANDB_ERROR_REPORTING": "false",
        "HTTPS_PROXY": nowhere,
        "HTTP_PROXY": nowhere,
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", WANDB, str(folder), *map(str, numbers)]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def test_wandb_keeps_one_run_over_a_resume_without_a_network(tmp_path):
    pytest.importorskip("wandb")
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for numbers in ((0, 3), (2, 5)):
        done = _wandb(folder, tmp_path, *numbers, mode="offline")
        assert done.returncode == 0, done.stderr
        assert "refused" not in done.stdout
    own = (folder / "wandb_id").read_text()
    files = sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))
    assert [path.stem for path in files] == [f"run-{own}"] * 2
    assert [line["step"] for line in logged(folder)] == [1, 2, 3, 4, 5]


def test_wandb_without_an_account_is_refused_before_the_training(tmp_path):
    pytest.importorskip("wandb")
    done = _wandb(tmp_path, tmp_path, 0, 3, mode="online")
    assert "refused: train.wandb_project: nobody is logged in: run `wandb login`" in done.stdout


# The names are those that CUDA gives; the peaks are of NVIDIA's data sheets, without sparsity.
PEAKS = {
    "NVIDIA H200": 989.4,
    "NVIDIA H100 80GB HBM3": 989.4,
    "NVIDIA H100 PCIe": 756.0,
    "NVIDIA H100 NVL": 835.5,
    "NVIDIA GH200 480GB": 989.4,
    "NVIDIA B200": 2250.0,
    "NVIDIA A100-SXM4-80GB": 312.0,
    "NVIDIA A100-PCIE-40GB": 312.0,
    "A100-SXM4-40GB": 312.0,
    "NVIDIA L40S": 362.0,
    "NVIDIA L40": 181.0,
    "NVIDIA L4": 121.0,
    "NVIDIA A10": 125.0,
    "NVIDIA GeForce RTX 4090": 165.2,
    "NVIDIA RTX 6000 Ada Generation": 364.2,
    "NVIDIA RTX A6000": 154.8,
    "NVIDIA A10G": None,
    "NVIDIA GeForce RTX 4090 D": None,
    "NVIDIA GeForce RTX 4090 Laptop GPU": None,
    "NVIDIA H100 80GB HBM3 MIG 1g.10gb": None,
    "Tesla V100-SXM2-16GB": None,
    "AMD Instinct MI300X": None,
}


@pytest.mark.parametrize("name", PEAKS)
def test_the_peak_of_a_gpu_is_that_of_its_data_sheet_or_not_known(name):
    assert peak_tflops(name) == PEAKS[name]
