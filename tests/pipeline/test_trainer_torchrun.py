"""torchrun: the first process does the stage, and no process waits for a dead one."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from trainer_shards import pairs, write_shards

from pipeline.tokenizer import Tokenizer

ROOT = Path(__file__).parents[2]
SETTINGS = """
[train]
model = "tiny"
shards = "{folder}/shards"
vocabulary = "{folder}/vocabulary.txt.gz"
batch_size = 8
epochs = {epochs}
save_every_steps = 2
log_every_steps = 1
device = "cpu"
wait_seconds = 60
[loader]
workers = 0
"""
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    write_shards(folder / "shards", pairs(24))
    Tokenizer([]).save(folder / "vocabulary.txt.gz")
    for epochs in (1, 1000):
        text = SETTINGS.format(folder=folder, epochs=epochs)
        (folder / f"{epochs}.toml").write_text(text)
    return folder


def started(*command, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", *map(str, command)],
        cwd=ROOT,
        env=ENVIRONMENT | environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


def torchrun(*told):
    program = ("torch.distributed.run", "--standalone", "--nproc-per-node=2")
    return started(*program, "-m", "jobs.train", *told)


def lines(run):
    path = run / "11_checkpoints" / "metrics.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def test_the_first_process_does_the_stage_and_the_others_follow(folder):
    run = folder / "followed"
    process = torchrun(run, "--config", folder / "1.toml")
    _, said = process.communicate(timeout=200)
    assert process.returncode == 0, said[-2000:]
    manifest = json.loads((run / "11_checkpoints" / "_manifest.json").read_text())
    assert (manifest["rows"], manifest["notes"]["steps"]) == (24, 3)
    assert len(lines(run)) == 3
    assert said.count("train: done") == 1


def test_where_one_process_is_killed_the_other_ends_with_a_word(folder):
    run = folder / "killed"
    process = torchrun(run, "--config", folder / "1000.toml")
    deadline = time.monotonic() + 200
    while len(lines(run)) < 3 and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.2)
    children = psutil.Process(process.pid).children(recursive=True)
    (second,) = [child for child in children if child.environ().get("RANK") == "1"]
    second.send_signal(signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "process 0 of 2 lost the others" in said
    assert "goes on from the last checkpoint" in said
    assert (run / "11_checkpoints" / "step_000000002").exists()
    assert not (run / "11_checkpoints" / "_manifest.json").exists()


def test_a_first_process_that_fails_before_the_training_leaves_none_waiting(folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = ("jobs.train", folder / "failed", "--config", folder / "1.toml")
    wrong = ("--set", 'train.weights="nowhere.pt"')
    processes = [
        started(
            *told,
            *wrong,
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE="2",
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(port),
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=150)[1] for process in processes]
    assert processes[0].returncode == 2
    assert "nowhere.pt does not exist" in said[0]
    assert processes[1].returncode in (0, 2)
