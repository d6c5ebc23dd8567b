"""Room: memory that a thread uses again and again.

To get the pages of a picture anew for each picture can cost more than what is done with them.
"""

import threading
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

MAX_KEPT_BYTES = 1 << 24
"""Of memory under one name, from one picture to the next."""

_LINE = 64
"""Bytes of memory that a core moves at once, and has to move twice where an array begins amid."""


class Room(threading.local):
    """Arrays by name. What is in one lasts until the thread asks for the same name again."""

    def __init__(self) -> None:
        self._kept: dict[str, npt.NDArray[np.uint8]] = {}

    def array(self, name: str, shape: tuple[int, ...], kind: type[np.generic]) -> npt.NDArray[Any]:
        """An array in C order that holds whatever was there before."""
        size = prod(shape) * np.dtype(kind).itemsize
        if size > MAX_KEPT_BYTES:
            return np.empty(shape, kind)
        kept = self._kept.get(name)
        if kept is None or size > len(kept):
            kept = np.empty(size + _LINE, np.uint8)
            begin = -kept.ctypes.data % _LINE
            kept = self._kept[name] = kept[begin : begin + size]
        return kept[:size].view(kind).reshape(shape)
