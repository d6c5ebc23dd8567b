"""Scratch: the folder of this machine for what a run need not keep."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from pipeline import storage
from pipeline.staged import scratch_folder
from pipeline.storage import Place


def scratch_of(root: Place) -> Path:
    """In the run where it lies on a disk; else a folder that goes with this process."""
    return _temporary() if storage.is_remote(root) else root / "_scratch"


@cache
def _temporary() -> Path:
    made = Path(tempfile.mkdtemp(prefix="wit-", dir=scratch_folder()))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made
