"""Names: what looks like chance and follows from a row's number, so that rows are made in parts."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Words = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]

_HEX = np.array([f"{byte:02x}" for byte in range(256)], "S2")


def mixed(numbers: npt.ArrayLike, seed: int) -> Words:
    """A word for each number, another with each seed (SplitMix64, which is one to one)."""
    words = np.asarray(numbers).astype(np.uint64)
    words = words + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
    words = (words ^ words >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ words >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    mixed: Words = words ^ words >> np.uint64(31)
    return mixed


def uniform(numbers: npt.ArrayLike, seed: int) -> Floats:
    """The same from [0, 1)."""
    return (mixed(numbers, seed) >> np.uint64(11)) / 2.0**53


def hexed(numbers: npt.ArrayLike, seed: int, words: int) -> pa.StringArray:
    """The same as text: so many words of 16 digits."""
    wide = np.stack([mixed(numbers, seed + word) for word in range(words)], axis=1)
    digits = np.ascontiguousarray(_HEX[wide.view(np.uint8)]).view(f"S{16 * words}")
    return pa.array(digits.reshape(-1)).cast(pa.string())
