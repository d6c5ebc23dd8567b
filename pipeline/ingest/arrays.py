"""Arrays: the letters of texts, as kernels read them."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.kernels import Bytes


def bytes_of(texts: pa.StringArray) -> tuple[Bytes, npt.NDArray[np.int32]]:
    """The letters of texts without nulls, and where each one begins, and the last one ends."""
    _, offsets, letters = texts.buffers()
    if letters is None or not len(texts):
        return np.empty(0, np.uint8), np.zeros(len(texts) + 1, np.int32)
    bounds: Any = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    return np.frombuffer(letters, np.uint8), bounds
