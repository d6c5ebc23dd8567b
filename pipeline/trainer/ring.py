"""Ring: batches in memory that the trainer and its workers share.

A slot holds one batch. The memory belongs to no name in a file system: nothing is left of it when
its last process ends, however it ends, and no limit of /dev/shm applies (a container's is 64 MB).
In names of arrays: B batch, H height, W width, C channels, L tokens.
"""

import mmap
import os
import tempfile
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_PAGE = mmap.PAGESIZE
_LAST_STREAM = 2


@dataclass(frozen=True)
class Shape:
    """What a ring holds."""

    slots: int
    batch_size: int
    side: int
    context: int


@dataclass(frozen=True)
class Slot:
    """The arrays of one batch: the first four say what goes into it, the others are filled."""

    epoch: npt.NDArray[np.int64]
    position: npt.NDArray[np.int64]
    sample: npt.NDArray[np.int64]
    """B: what is to stand there."""
    crop: npt.NDArray[np.float64]
    used: npt.NDArray[np.int64]
    """B: what stands there; another sample where that one cannot be read."""
    tokens_BL: npt.NDArray[np.int32]
    image_BHWC: npt.NDArray[np.uint8]


def slot_of(shape: Shape) -> Slot:
    """A slot in this process's own memory."""
    return Slot(**{name: np.empty(*form) for name, form in _forms(shape).items()})


def _forms(shape: Shape) -> dict[str, tuple[tuple[int, ...], Any]]:
    size, side = shape.batch_size, shape.side
    return {
        "epoch": ((size,), np.int64),
        "position": ((size,), np.int64),
        "sample": ((size,), np.int64),
        "crop": ((size,), np.float64),
        "used": ((size,), np.int64),
        "tokens_BL": ((size, shape.context), np.int32),
        "image_BHWC": ((size, side, side, 3), np.uint8),
    }


class Ring:
    """Slots in shared memory. Whoever has its `file` open and its `shape` sees the same."""

    def __init__(self, shape: Shape, file: int | None = None) -> None:
        self.shape = shape
        self._places, slot_bytes = _layout(shape)
        self._slot_bytes = slot_bytes
        if file is None:
            _hold_standard_streams()
        self.file = _new_file() if file is None else file
        if file is None:
            os.ftruncate(self.file, slot_bytes * shape.slots)
        self.memory = mmap.mmap(self.file, slot_bytes * shape.slots)

    def slot(self, number: int) -> Slot:
        """New arrays over the memory of a slot."""
        begin = number * self._slot_bytes
        arrays = {
            name: np.ndarray(form, kind, self.memory, begin + self._places[name])
            for name, (form, kind) in _forms(self.shape).items()
        }
        return Slot(**arrays)

    def close(self) -> None:
        """Close the file. The memory stays until its last array is gone."""
        os.close(self.file)


def _layout(shape: Shape) -> tuple[dict[str, int], int]:
    """Where each array of a slot begins, and the bytes of a slot: whole pages each."""
    places, at = {}, 0
    for name, (form, kind) in _forms(shape).items():
        places[name] = at
        size = int(np.prod(form)) * np.dtype(kind).itemsize
        at += -(-size // _PAGE) * _PAGE
    return places, at


def _hold_standard_streams() -> None:
    """Open those that this process was started without (`<&-`): memory or a pipe that got one of
    their numbers would be another file in a worker, and be written to by whoever warns."""
    while (file := os.open(os.devnull, os.O_RDWR)) <= _LAST_STREAM:
        pass
    os.close(file)


def _new_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("webimagetext-batches")
    # Where there is none, a file without a name.
    file, path = tempfile.mkstemp(prefix="webimagetext-batches-")
    os.unlink(path)  # noqa: PTH108 - it has no other name than this
    return file
