"""Workers: processes that verify shards, one at a time each.

A decoder that crashes on a file takes its process with it: that costs one shard, which is told, and
another process goes on. Nobody waits for a process that is gone.
"""

import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from pipeline.errors import WitError
from pipeline.verify.shards import Seen, Task, verify

_OTHERS = ("WDS_", "GOPEN_", "USE_AIS_FOR")
"""Variables with which the webdataset package would read other files, or talk."""
_READY = "ready"


class NoWorker(WitError):
    """A process that verifies could not begin."""


class _Worker:
    """A process, and the shard it has in hand."""

    def __init__(self) -> None:
        # Forked ones would share the threads' locks of this process.
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process: SpawnProcess = context.Process(target=_work, args=(other,), daemon=True)
        with _uninterrupted():
            self.process.start()
        # Else the pipe would stay open when the process is gone.
        other.close()
        self.is_ready = False
        self.number: int | None = None

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """What is started within holds interrupts back, until it says what it does with them; and the
    start itself is not broken off, but the interrupt comes behind it."""
    # Started first: on its way it lets them through again.
    resource_tracker.ensure_running()
    came: list[int] = []
    # Blocked is not enough here: another thread may take the signal for all.
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)


def verified(tasks: Sequence[Task], workers: int) -> Generator[Seen]:
    """What there is of each shard, in the order of `tasks`, whatever the number of `workers`."""
    staff = [_Worker() for _ in range(min(workers, len(tasks)))]
    todo = iter(range(len(tasks)))
    done: dict[int, Seen] = {}
    told = 0
    try:
        while told < len(tasks):
            ready = wait([worker.pipe for worker in staff])
            for place, worker in enumerate(staff):
                if worker.pipe not in ready:
                    continue
                staff[place] = _heard(worker, tasks, done)
                number = next(todo, None) if staff[place].is_ready else None
                if number is not None:
                    staff[place].number = number
                    _send(staff[place], tasks[number])
            while told in done:
                yield done.pop(told)
                told += 1
    finally:
        for worker in staff:
            worker.end()


def _send(worker: _Worker, task: Task) -> None:
    # If it is gone, the end of its pipe is heard next, and the shard told.
    with suppress(BrokenPipeError):
        worker.pipe.send(task)


def _heard(worker: _Worker, tasks: Sequence[Task], done: dict[int, Seen]) -> _Worker:
    """Take what a worker says: that it is ready, what it saw, or nothing more, and then another
    takes its place."""
    try:
        said = worker.pipe.recv()
    except (EOFError, OSError):  # it may end in the middle of a word
        worker.process.join()
        how = _ending(worker.process.exitcode)
        worker.end()
        if not worker.is_ready:
            raise NoWorker(f"a process that verifies ended before it began, with {how}") from None
        if worker.number is not None:
            seen = Seen()
            told = f"the process that read it ended with {how}"
            seen.found.add(
                "a shard that could not be verified", tasks[worker.number].name, detail=told
            )
            done[worker.number] = seen
        return _Worker()
    if worker.number is not None:
        done[worker.number] = said
    worker.is_ready, worker.number = True, None
    return worker


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return f"signal {-code} ({signal.strsignal(-code)})"
    return f"exit code {code}"


def _work(pipe: Connection) -> None:
    """Verify what is sent, until the other end is closed."""
    # An interrupt is for the process that asked.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in [name for name in os.environ if name.startswith(_OTHERS)]:
        del os.environ[name]
    # The webdataset package loads it if it can, which takes 200 MB and a second, and does without.
    sys.modules["torch"] = None  # type: ignore[assignment]
    # Decoders and packages warn on the terminal of what is found and told anyway.
    warnings.simplefilter("ignore")
    try:
        pipe.send(_READY)
        while True:
            pipe.send(_one(pipe.recv()))
    except (EOFError, OSError):
        sys.exit(0)


def _one(task: Task) -> Seen:
    try:
        return verify(task)
    except Exception as error:  # noqa: BLE001 - what nobody foresaw costs one shard as well
        seen = Seen()
        told = f"{type(error).__name__} {error}"
        seen.found.add("a shard that could not be verified", task.name, detail=told)
        return seen
