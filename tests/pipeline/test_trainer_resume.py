"""Kills: whatever is killed and however it goes on, the batches are the same, and nothing hangs."""

import io
import os
import random
import signal
import struct
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest
from PIL import Image
from trainer_shards import pairs, write_shards

from pipeline.settings import LoaderSettings
from pipeline.tokenizer import Tokenizer
from pipeline.trainer.samples import Batches, Samples
from pipeline.trainer.workers import WorkerDied

ROOT = Path(__file__).parents[2]
STEPS = 14


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_shards(tmp_path_factory.mktemp("shards"), pairs(60), per_shard=9)


def _started(shards, first, last, workers, rank=0, ranks=1, closed="", cwd=None):
    numbers = map(str, (first, last, workers, rank, ranks))
    program = [sys.executable, str(ROOT / "tests/pipeline/loader_process.py")]
    return subprocess.Popen(
        ["/bin/sh", "-c", f'exec {closed} "$0" "$@"', *program, str(shards), *numbers],
        stdout=subprocess.PIPE,
        cwd=cwd,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def _told(process, lines=None):
    """(step, row): digest, of as many lines as asked for; and the workers' processes."""
    rows, workers = {}, []
    for line in process.stdout:
        kind, *rest = line.split()
        if kind == "workers":
            workers = list(map(int, rest))
            continue
        rows[int(kind), int(rest[0])] = rest[1]
        if len(rows) == lines:
            break
    return rows, workers


@pytest.fixture(scope="module")
def unbroken(shards):
    with _started(shards, 0, STEPS, 0) as process:
        rows, _ = _told(process)
    assert len(rows) == STEPS * 12
    return rows


def _gone(pids):
    """Whether all of these processes end, which they do within seconds where they notice."""
    for _ in range(300):
        if not any(psutil.pid_exists(pid) for pid in pids):
            return True
        time.sleep(0.1)
    return False


def test_batches_are_the_same_over_kills_and_changes_of_workers_and_ranks(shards, unbroken):
    chance = random.Random(4)
    found, step, pids = {}, 0, []
    for workers, ranks in ((3, 1), (0, 3), (1, 2), (2, 1)):
        is_last = (workers, ranks) == (2, 1)
        until = STEPS if is_last else step + 1 + chance.randrange(3)
        parts = [_started(shards, step, STEPS, workers, rank, ranks) for rank in range(ranks)]
        for process in parts:
            rows, others = _told(process, None if is_last else (until - step) * 12 // ranks)
            pids += others
            if not is_last:
                process.kill()
            process.wait()
            process.stdout.close()
            found |= {place: digest for place, digest in rows.items() if place[0] < until}
        step = until
    assert found == unbroken
    assert _gone(pids)


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- 2>&-"])
def test_batches_are_the_same_where_a_standard_stream_is_closed(shards, unbroken, closed):
    with _started(shards, 0, 2, 2, closed=closed) as process:
        found, _ = _told(process)
    assert found == {place: digest for place, digest in unbroken.items() if place[0] < 2}


def test_workers_do_not_take_for_ours_what_lies_in_the_folder_where_they_start(shards, tmp_path):
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "__init__.py").write_text("raise SystemExit(3)")
    (tmp_path / "queue.py").write_text("raise SystemExit(3)")
    with _started(shards, 0, 2, 2, cwd=tmp_path) as process:
        found, _ = _told(process)
    assert len(found) == 2 * 12


def test_workers_end_when_their_trainer_is_killed(shards):
    with _started(shards, 0, 10_000, 3) as process:
        _, workers = _told(process, 12)
        process.kill()
    assert len(workers) == 3
    assert _gone(workers)


def _new_child(before):
    """One that came since: other tests leave processes of the compiler."""
    return next(child for child in psutil.Process().children() if child not in before)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV])
def test_a_worker_that_dies_ends_the_run_with_its_error(shards, how):
    batches = Batches(Samples(shards, LoaderSettings()), Tokenizer([]), 12, 48, 32, 0)
    before = psutil.Process().children()
    with closing(batches.between(0, 10_000, workers=2)) as stream:
        next(stream)
        victim = _new_child(before)
        victim.send_signal(how)
        with pytest.raises(WorkerDied, match=rf"pid {victim.pid}\) was killed by signal {how}"):
            for _ in stream:
                pass


def test_a_worker_that_dies_is_not_told_of_with_what_a_decoder_said_of_an_image(tmp_path):
    whole = io.BytesIO()
    Image.new("RGB", (64, 64)).save(whole, "TIFF")
    samples_per_pixel = struct.pack("<HHI", 277, 3, 1)
    broken = whole.getvalue().replace(samples_per_pixel + b"\3", samples_per_pixel + b"\xff")
    samples = pairs(24)
    samples[1:12] = [(key, broken, caption) for key, _, caption in samples[1:12]]
    batches = Batches(Samples(write_shards(tmp_path, samples)), Tokenizer([]), 12, 48, 32, 0)
    before = psutil.Process().children()
    with closing(batches.between(0, 10_000, workers=1)) as stream:
        skipped = [*next(stream).skipped, *next(stream).skipped]
        assert {reason for _, reason in skipped} == {"undecodable"}
        _new_child(before).kill()
        with pytest.raises(WorkerDied, match=r"batches_ahead\)\. Run the same"):
            for _ in stream:
                pass


def test_a_worker_that_dies_before_its_first_batch_ends_the_run_too(shards):
    batches = Batches(Samples(shards), Tokenizer([]), 12, 48, 32, 0)
    before = psutil.Process().children()
    stream = batches.between(0, 10_000, workers=2)

    def kill_the_first():
        while True:
            for child in psutil.Process().children():
                if child not in before:
                    with suppress(psutil.NoSuchProcess):
                        child.kill()
                    return

    killer = threading.Thread(target=kill_the_first)
    killer.start()
    with closing(stream), pytest.raises(WorkerDied, match="signal 9"):
        for _ in stream:
            pass
    killer.join()
