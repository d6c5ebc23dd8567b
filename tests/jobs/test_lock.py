"""jobs.lock"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobs import lock
from jobs.ledger import Ledger
from jobs.lock import RunIsBusy, alone
from jobs.run import Run
from pipeline.settings import Settings

_HOLD = """
import sys, time
from pathlib import Path
from jobs.lock import alone
with alone(Path(sys.argv[1])):
    {before}
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def _holder(root: Path, before: str = "pass") -> Iterator[subprocess.Popen[str]]:
    """Another process that holds `root`."""
    command = [sys.executable, "-c", _HOLD.format(before=before), str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def _elsewhere(root: Path, seconds_ago: float) -> None:
    """A lock file that a process of another machine wrote, and renewed so long ago."""
    path = root / lock.LOCK
    path.write_text(json.dumps({"host": "far-away", "pid": 7, "since": time.time() - 9000}))
    os.utime(path, (time.time() - seconds_ago,) * 2)


def test_the_second_of_two_is_told_who_is_first_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "run.toml").touch()
    with _holder(tmp_path) as first:
        with pytest.raises(RunIsBusy) as refused, alone(tmp_path):
            pass
        told = str(refused.value)
        assert f"(pid {first.pid} on {socket.gethostname()}, since 2" in told
        assert f"wait for it to end, or watch it with `wit status --run {tmp_path}`" in told
        assert "\n" not in told


def test_after_a_kill_the_second_goes_on_at_once(tmp_path: Path) -> None:
    with _holder(tmp_path) as first:
        first.send_signal(signal.SIGKILL)
        first.wait()
    killed, said = lock.owner(tmp_path), list[str]()
    assert killed is not None
    assert killed.pid == first.pid
    began = time.monotonic()
    with alone(tmp_path, said.append):
        assert time.monotonic() - began < 1
        held = lock.owner(tmp_path)
        assert held is not None
        assert held.pid == os.getpid()
    assert said == []
    assert lock.owner(tmp_path) is None


def test_a_lock_that_an_orphan_keeps_is_told_as_that(tmp_path: Path) -> None:
    # A child that was forked, and not started anew, has the file open as well.
    forked = "import os; child = os.fork(); child or time.sleep(60); print(child, flush=True)"
    command = [sys.executable, "-c", _HOLD.format(before=forked), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        child = int(first.stdout.readline())
        first.kill()
        first.wait()
        try:
            with (
                pytest.raises(RunIsBusy, match="has ended, but a process that it started"),
                alone(tmp_path),
            ):
                pass
        finally:
            os.kill(child, signal.SIGKILL)
    with alone(tmp_path):
        pass


def test_another_machine_that_shows_life_is_as_good_as_a_lock(tmp_path: Path) -> None:
    _elsewhere(tmp_path, seconds_ago=100)
    before = (tmp_path / lock.LOCK).read_bytes()
    with pytest.raises(RunIsBusy, match=r"pid 7 on far-away, since .*: wait"), alone(tmp_path):
        pass
    assert (tmp_path / lock.LOCK).read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == [lock.LOCK]


def test_another_machine_without_life_is_taken_over_from_with_a_word(tmp_path: Path) -> None:
    _elsewhere(tmp_path, seconds_ago=lock.STALE_SECONDS + 10)
    said: list[str] = []
    with alone(tmp_path, said.append):
        assert len(said) == 1
        assert "taken over from pid 7 on far-away" in said[0]


def test_a_process_from_which_was_taken_over_learns_of_it_and_leaves_the_name(
    tmp_path: Path,
) -> None:
    with alone(tmp_path) as hold:
        hold.check()
        _elsewhere(tmp_path, seconds_ago=0)
        with pytest.raises(RunIsBusy, match="taken over by pid 7 on far-away"):
            hold.check()
    found = lock.owner(tmp_path)
    assert found is not None
    assert found.host == "far-away"


@pytest.mark.parametrize("is_there", [True, False])
def test_a_process_from_which_was_taken_over_learns_of_it_when_the_other_has_ended(
    tmp_path: Path, is_there: bool
) -> None:
    run = Run(tmp_path, Settings())
    with alone(tmp_path) as run.hold, run.stage("derive", {}, {}):
        run.begin("words")
        theirs = run.path("words") / "part-00000.parquet"
        theirs.write_bytes(b"of the other")
        (tmp_path / lock.LOCK).write_text("")
        if not is_there:
            (tmp_path / lock.LOCK).unlink()
        with pytest.raises(RunIsBusy, match="taken over by another `wit`, which has ended"):
            run.begin("words")
        with pytest.raises(RunIsBusy, match="taken over"):
            run.finish("words", Ledger(1, 1))
        assert theirs.read_bytes() == b"of the other"


def test_the_name_is_renewed_as_long_as_the_process_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.05)
    with alone(tmp_path):
        os.utime(tmp_path / lock.LOCK, (1.0, 1.0))
        limit = time.monotonic() + 10
        while lock.silent_seconds(tmp_path) > 100 and time.monotonic() < limit:
            time.sleep(0.02)
        assert lock.silent_seconds(tmp_path) < 100


@pytest.mark.parametrize("left", ["", "{", "[]", '{"host": "a"}', '{"host": 1, "pid": "x"}'])
def test_a_lock_file_without_a_name_stands_in_nobodys_way(tmp_path: Path, left: str) -> None:
    (tmp_path / lock.LOCK).write_text(left)
    assert lock.owner(tmp_path) is None
    with alone(tmp_path), pytest.raises(RunIsBusy, match=f"pid {os.getpid()} "), alone(tmp_path):
        pass


def test_where_nothing_can_be_locked_the_name_of_a_process_that_lives_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    with _holder(tmp_path) as first:
        monkeypatch.setattr(lock.fcntl, "flock", no_locks)
        assert lock.is_held(tmp_path) is None
        with pytest.raises(RunIsBusy, match=f"pid {first.pid} "), alone(tmp_path):
            pass
        first.kill()
        first.wait()
        with alone(tmp_path):
            pass


def test_looking_at_a_lock_refuses_nobody(tmp_path: Path) -> None:
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            lock.is_held(tmp_path)
            time.sleep(0.001)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(12):
            with alone(tmp_path):
                assert lock.is_held(tmp_path)
        assert not lock.is_held(tmp_path)
    finally:
        done.set()
        looking.join()
