"""Kernels: loops over bytes and numbers, compiled to machine code when first called."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numba

P = ParamSpec("P")
R = TypeVar("R")


def _cache_folder() -> Path:
    """Where machine code is kept. Another source is another folder: numba looks only at the file
    of the kernel itself, and not at those of the kernels that it calls."""
    root = Path(__file__).resolve().parent.parent
    if root.is_file():  # a zip given to spark-submit
        sources = [root]
    else:
        sources = sorted(
            file for room in ("pipeline", "queries") for file in root.glob(f"{room}/**/*.py")
        )
    digest = hashlib.sha256()
    for source in sources:
        digest.update(source.read_bytes())
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "webimagetext" / digest.hexdigest()[:16]


if "NUMBA_CACHE_DIR" not in os.environ:
    numba.config.CACHE_DIR = str(_cache_folder())  # type: ignore[attr-defined]


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, compiled. Its arguments are numbers, arrays and named tuples of them."""
    try:
        compiled: Any = numba.njit(nogil=True, cache=True)(function)
    except (RuntimeError, OSError):  # no place to keep it: every process compiles anew
        compiled = numba.njit(nogil=True)(function)
    return compiled  # type: ignore[no-any-return]
