"""Worker: a process that fills rows of batches in shared memory, until there are no more.

Started by pipeline.trainer.workers as `python -m pipeline.trainer.worker JOB TASKS DONE MEMORY`,
four file descriptors that it inherits. Imports no torch, so that it is ready in a moment.
"""

import logging
import os
import pickle
import select
import signal
import struct
import sys
import warnings
from collections.abc import Iterator

from pipeline.errors import WitError
from pipeline.trainer.stopping import HEARD

TASK = struct.Struct("<IIQ")
"""Slot, first row, rows behind it. Read by whichever worker is free."""
DONE = struct.Struct("<HHIIQ")
"""Kind, bytes that follow, slot, first row, rows."""
FILLED, SKIPPED, FAILED = range(3)
"""Rows are filled; a sample was skipped (`reason\\0pair_id` follows); the worker gives up (why)."""
MAX_TEXT = select.PIPE_BUF - DONE.size
"""What is longer is not written to a pipe in one piece, and those of two workers could mix."""
_ORPHAN_SECONDS = 5.0
"""How often an idle worker looks whether its trainer still lives."""


def main(job: int, tasks: int, done: int, memory: int) -> None:
    """Fill rows until no task can come any more."""
    # What asks a job to stop may go to each of its processes; the trainer still finishes a step.
    for number in HEARD:
        signal.signal(number, signal.SIG_IGN)
    # What decoders say of broken images, a line each, would fill the disk with nothing to do about.
    logging.disable()
    warnings.simplefilter("ignore")

    def tell(kind: int, slot: int = 0, first: int = 0, rows: int = 0, text: str = "") -> None:
        raw = text.encode("utf-8", "replace")[:MAX_TEXT]
        os.write(done, DONE.pack(kind, len(raw), slot, first, rows) + raw)

    from pipeline.trainer.filling import Filler, Job
    from pipeline.trainer.ring import Ring

    asked: Job = pickle.loads(os.pread(job, os.fstat(job).st_size, 0))  # noqa: S301 - our parent's
    try:
        filler = Filler.of(asked)
        ring = Ring(asked.shape, memory)
        for slot, first, rows in _tasks(tasks):
            for skipped in filler.fill(ring.slot(slot), range(first, first + rows)):
                told = f"{skipped.reason}\0{skipped.pair_id}"
                tell(SKIPPED, slot, first, rows, told)
            tell(FILLED, slot, first, rows)
    except WitError as error:
        tell(FAILED, text=str(error))
    except BrokenPipeError:
        return  # nobody waits any more


def _tasks(file: int) -> Iterator[tuple[int, int, int]]:
    parent = os.getppid()
    while True:
        ready, _, _ = select.select([file], [], [], _ORPHAN_SECONDS)
        if not ready:
            if os.getppid() != parent:
                return
            continue
        # Writes and reads of one size each: a task is never torn between two workers.
        try:
            raw = os.read(file, TASK.size)
        except BlockingIOError:
            continue  # another worker took it
        if len(raw) < TASK.size:
            return
        yield TASK.unpack(raw)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:5]))
