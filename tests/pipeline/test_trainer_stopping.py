"""Stopping: a signal is heard between two steps, and means afterwards what it meant before."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from trainer_shards import pairs, write_shards

from pipeline.settings import LoaderSettings
from pipeline.tokenizer import Tokenizer
from pipeline.trainer.samples import Batches, Samples
from pipeline.trainer.stopping import Stopping

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_asks_to_stop_and_is_named(number):
    with Stopping() as stopping:
        assert not stopping.asked
        os.kill(os.getpid(), number)
        assert stopping.asked
        assert stopping.signal == number.name


def test_what_a_signal_meant_before_it_means_again_whatever_ends_the_loop():
    heard = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: heard.append(number))
    default = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(ZeroDivisionError), Stopping():
            raise ZeroDivisionError
        os.kill(os.getpid(), signal.SIGUSR1)
        assert heard == [signal.SIGUSR1]
        assert signal.getsignal(signal.SIGTERM) is default
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_another_thread_than_the_main_one_is_never_asked():
    told = []

    def run():
        with Stopping() as stopping:
            told.append(stopping.asked)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert told == [False]


def test_a_process_that_is_asked_ends_its_step_and_then_itself():
    program = (
        "import sys\n"
        "from pipeline.trainer.stopping import Stopping\n"
        "with Stopping() as stopping:\n"
        "    print('ready', flush=True)\n"
        "    sys.stdin.read()\n"
        "    print('saved', stopping.signal, flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.communicate()[0] == "saved SIGTERM\n"
    assert process.returncode == 0


def test_workers_go_on_when_a_whole_job_is_asked_to_stop(tmp_path):
    samples = Samples(write_shards(tmp_path, pairs(16)), LoaderSettings())
    before = psutil.Process().children()
    stream = Batches(samples, Tokenizer([]), 8, 48, 32, 0).between(0, 200, workers=2)
    first = next(stream)
    # The others belong to other tests: Spark's JVM ends when asked to.
    workers = [child for child in psutil.Process().children() if child not in before]
    for child in workers:
        child.send_signal(signal.SIGTERM)
        child.send_signal(signal.SIGUSR1)
    second = next(stream)
    assert (first.step, second.step) == (0, 1)
    assert len([next(stream) for _ in range(20)]) == 20
    stream.close()
