"""Kernels: loops over bytes and numbers, compiled to machine code when first called."""

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numba
import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
FNV_BASIS, FNV_PRIME = 0xCBF29CE484222325, 0x100000001B3
"""Of FNV-1a, 64 bits."""

P = ParamSpec("P")
R = TypeVar("R")


def _cache_folder() -> Path:
    """Where machine code is kept, by the sources of all kernels: numba itself looks only at the
    file of the kernel, and not at those of the kernels that it calls."""
    root = Path(__file__).resolve().parent.parent
    sources = [root]
    if root.is_dir():  # and no zip for spark-submit
        sources = [*sorted(root.glob("pipeline/**/*.py")), *sorted(root.glob("queries/**/*.py"))]
    digest = hashlib.sha256()
    for source in sources:
        code = source.read_bytes()
        if b"pipeline.kernels" in code or source in (root, Path(__file__)):
            digest.update(code)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "webimagetext" / digest.hexdigest()[:16]


if "NUMBA_CACHE_DIR" not in os.environ:
    with contextlib.suppress(RuntimeError):  # where the user has no home
        numba.config.CACHE_DIR = str(_cache_folder())  # type: ignore[attr-defined]


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, compiled. Its arguments are numbers, arrays and named tuples of them."""
    try:
        compiled: Any = numba.njit(nogil=True, cache=True)(function)
    except (RuntimeError, OSError):  # no place to keep it: every process compiles anew
        compiled = numba.njit(nogil=True)(function)
    return compiled  # type: ignore[no-any-return]
