"""Workers: processes that fill the slots of a ring, as the trainer sees them.

Tasks and answers pass through two pipes that all workers share: no lock exists that a killed
process could keep. A worker that ends early ends the run, with what it said last.
"""

import os
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from pathlib import Path
from typing import IO

import pipeline
from pipeline.errors import BadInput, WitError
from pipeline.trainer.filling import Job, Skipped
from pipeline.trainer.ring import Ring
from pipeline.trainer.worker import DONE, FAILED, SKIPPED, TASK

_LOOK_SECONDS = 0.5
"""How often it is seen whether all workers live."""
_END_SECONDS = 10.0
_READ_BYTES = 1 << 16
_MAX_ROWS = 64
"""Of a task: what one worker has in hand at the end of a batch while the others wait."""
_TASKS_EACH = 4
"""Tasks of a batch for each worker, where it is small: the last ones end at about the same time."""
_MAX_TASKS = 512
"""Of a batch: those of a few batches fit into a pipe."""


class WorkerDied(WitError):
    """A process that fills batches ended before its time."""


class Workers:
    """A number of processes, and what they were asked for."""

    def __init__(self, count: int, job: Job, ring: Ring) -> None:
        size = ring.shape.batch_size
        rows = min(_MAX_ROWS, max(1, size // (count * _TASKS_EACH)))
        self._rows = max(rows, -(-size // _MAX_TASKS))
        self._size = size
        self._filled: Counter[int] = Counter()
        self._skipped: dict[int, list[tuple[int, Skipped]]] = {}
        self._unsent: deque[bytes] = deque()
        self._unread = b""
        self._looked = time.monotonic()
        self._said: list[IO[bytes]] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        tasks, self._tasks = os.pipe()
        self._done, done = os.pipe()
        os.set_blocking(self._tasks, False)
        os.set_blocking(tasks, False)
        os.set_blocking(self._done, False)
        with tempfile.TemporaryFile() as packed:
            packed.write(job.packed())
            packed.flush()
            try:
                for _ in range(count):
                    self._start(packed.fileno(), tasks, done, ring.file)
            except BaseException:
                self.close()
                raise
            finally:
                os.close(tasks)
                os.close(done)

    def _start(self, *files: int) -> None:
        root = str(Path(pipeline.__file__).parents[1])
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        # Libraries that thread within an image would only wait for each other.
        calm = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        environment = {**os.environ, **calm, "PYTHONPATH": os.pathsep.join(paths)}
        said = tempfile.TemporaryFile()  # noqa: SIM115 - read when the process has ended
        self._said.append(said)
        # -P: a `pipeline` in the folder where somebody stands is none of ours.
        command = [sys.executable, "-P", "-m", "pipeline.trainer.worker", *map(str, files)]
        process = subprocess.Popen(  # noqa: S603 - ourselves
            command,
            pass_fds=files,
            env=environment,
            stdin=subprocess.DEVNULL,
            stderr=said,
            process_group=0,  # Ctrl-C is for the trainer, which ends the workers
        )
        self._processes.append(process)

    def ask(self, slot: int) -> None:
        """Have every row of `slot` filled."""
        self._filled[slot] = 0
        self._skipped[slot] = []
        for first in range(0, self._size, self._rows):
            rows = min(self._rows, self._size - first)
            self._unsent.append(TASK.pack(slot, first, rows))
        self._send()

    def wait(self, slot: int) -> list[Skipped]:
        """Until every row of `slot` is filled; what was skipped for it, in the order of the rows.

        Raises BadInput with what a worker says, WorkerDied when one has ended.
        """
        while self._filled[slot] < self._size:
            self._send()
            ready, _, _ = select.select([self._done], [], [], _LOOK_SECONDS)
            # The others may go on for long without the one that has ended.
            is_time = time.monotonic() - self._looked > _LOOK_SECONDS
            if not ready or not self._hear() or is_time:
                self._look()
        found = sorted(self._skipped.pop(slot), key=lambda each: each[0])
        return [skipped for _, skipped in found]

    def _send(self) -> None:
        while self._unsent:
            try:
                os.write(self._tasks, self._unsent[0])
            except BlockingIOError:
                return
            except BrokenPipeError:
                self._look()
            self._unsent.popleft()

    def _hear(self) -> bool:
        """Take what workers have said; whether there was something."""
        try:
            raw = os.read(self._done, _READ_BYTES)
        except BlockingIOError:
            return False
        self._unread += raw
        at = 0
        while len(self._unread) - at >= DONE.size:
            kind, length, slot, first, rows = DONE.unpack_from(self._unread, at)
            end = at + DONE.size + length
            if end > len(self._unread):
                break
            text = self._unread[at + DONE.size : end].decode("utf-8", "replace")
            at = end
            if kind == FAILED:
                raise BadInput(text)
            if kind == SKIPPED:
                reason, _, pair_id = text.partition("\0")
                self._skipped[slot].append((first, Skipped(pair_id, reason)))
            else:
                self._filled[slot] += rows
        self._unread = self._unread[at:]
        return bool(raw)

    def _look(self) -> None:
        """Raises WorkerDied, or what it said, when a worker has ended."""
        self._looked = time.monotonic()
        for process, said in zip(self._processes, self._said, strict=True):
            if process.poll() is not None:
                while self._hear():
                    pass
                raise WorkerDied(_told(process.pid, process.returncode, said))

    def close(self) -> None:
        """End all workers, and wait until they have ended."""
        for file in (self._tasks, self._done):
            os.close(file)
        deadline = time.monotonic() + _END_SECONDS
        for process in self._processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for said in self._said:
            said.close()


def _told(pid: int, code: int, said: IO[bytes]) -> str:
    """What there is to say of a process that ended with `code`."""
    how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
    hint = " (out of memory? lower loader.workers or loader.batches_ahead)" if code == -9 else ""
    said.seek(0)
    last = said.read().decode("utf-8", "replace").strip().splitlines()[-1:]
    words = f": {last[0]}" if last else ""
    return (
        f"a process that fills batches (pid {pid}) {how}{hint}{words}. Run the same command again; "
        "it goes on from the last checkpoint"
    )
