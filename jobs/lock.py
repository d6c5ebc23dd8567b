"""Lock: one process at a time works on a run directory."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.errors import WitError
from pipeline.storage import Place, is_remote


class RunIsBusy(WitError):
    """Another process works on the run directory."""


@contextmanager
def alone(root: Place) -> Iterator[None]:
    """Hold the run directory `root`. Raises RunIsBusy when another process does."""
    if is_remote(root):
        from jobs import store_lock

        with store_lock.alone(root):
            yield
        return
    with (root / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunIsBusy(
                f"{root} is being worked on by another `wit`: wait for it to end"
            ) from None
        yield
