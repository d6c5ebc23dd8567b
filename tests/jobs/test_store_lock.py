"""jobs.store_lock"""

import json
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from jobs import store_lock
from jobs.hold import alone
from jobs.lock import RunIsBusy
from jobs.run import Run
from pipeline import storage
from pipeline.storage import Place
from tests.s3_server import BUCKET, S3Server

_ELSEWHERE = {
    "owner": "1" * 32,
    "host": "far-away",
    "machine": "another",
    "pid": 1,
    "since": "then",
}


@pytest.fixture
def root(s3: S3Server, tmp_path: Path) -> Place:
    return storage.place(f"s3://{BUCKET}/{tmp_path.name}")


def _left_behind(root: Place, seconds: float) -> None:
    """A lock of another machine, as old as that."""
    storage.put(root / store_lock.LOCK, json.dumps(_ELSEWHERE))
    time.sleep(seconds)


def test_a_second_build_is_refused_with_the_first_one_s_machine_and_process(root: Place) -> None:
    with alone(root):
        with pytest.raises(RunIsBusy) as told, alone(root):
            pytest.fail("two at a time")
        assert str(told.value).startswith(f"{root} is being worked on by another `wit`")
        assert f"pid {os.getpid()} on {socket.gethostname()}, since 20" in str(told.value)
        assert "\n" not in str(told.value)
    with alone(root):
        pass
    assert storage.files(root) == []


def test_a_run_is_begun_by_one_process_alone(root: Place) -> None:
    config = root / "config.toml"
    storage.put(config, "[balance]\nseed = 7\n")
    with alone(root), pytest.raises(RunIsBusy):
        Run.open(root, config, [])
    assert Run.open(str(root), config, []).settings.balance.seed == 7
    assert Run.open(str(root), None, []).settings.balance.seed == 7


def test_what_another_machine_left_is_taken_over_when_it_is_old_by_the_store_s_clock(
    root: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    _left_behind(root, 2.1)
    with pytest.raises(RunIsBusy, match="pid 1 on far-away, since then"), alone(root):
        pass
    monkeypatch.setattr(store_lock, "STALE_SECONDS", 1.0)
    said: list[str] = []
    with store_lock.alone(root, said.append) as hold:
        hold.check()
    assert said == [
        f"{root}: taken over from pid 1 on far-away, since then, which gives no sign of life"
    ]
    assert storage.files(root) == []


def test_of_several_who_take_over_at_once_one_does(
    root: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    _left_behind(root, 2.1)
    monkeypatch.setattr(store_lock, "STALE_SECONDS", 1.0)
    monkeypatch.setattr(store_lock, "BEAT_SECONDS", 0.2)

    def take(_: int) -> bool:
        with suppress(RunIsBusy):
            open_until_the_end.enter_context(store_lock.alone(root))
            return True
        return False

    with ExitStack() as open_until_the_end, ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(take, range(6))) == 1
        time.sleep(2.1)
        assert not take(0)  # the one that did is alive


def test_a_killed_process_of_this_machine_is_not_waited_for(root: Place) -> None:
    code = (
        "import time; from jobs.hold import alone; from pipeline import storage\n"
        f"with alone(storage.place({str(root)!r})): print('held', flush=True); time.sleep(300)"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(RunIsBusy, match=f"pid {process.pid} on"), alone(root):
            pass
        process.kill()
        process.wait()
    with alone(root):
        pass


def test_who_was_taken_over_finishes_nothing(root: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_lock, "BEAT_SECONDS", 0.1)
    with store_lock.alone(root) as hold:
        hold.check()
        storage.put(root / store_lock.LOCK, json.dumps(_ELSEWHERE))
        time.sleep(0.5)
        with pytest.raises(RunIsBusy, match=r"worked on by another process \(pid 1 on far-away"):
            hold.check()
    # It is the other one's, and stays.
    assert json.loads(storage.read(root / store_lock.LOCK)) == _ELSEWHERE
