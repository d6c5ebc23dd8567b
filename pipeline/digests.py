"""Digests: what a table is known by, in whatever order and parts its rows come."""

from collections.abc import Sequence
from hashlib import sha256

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_BITS = 256


class Digest:
    """The sum of the rows' SHA-256, modulo 2^256."""

    def __init__(self) -> None:
        self._sum = 0

    def add(self, columns: Sequence[pa.Array]) -> NDArray[np.uint64]:
        """Add rows, given by columns. Returns the first 64 bits of the hash of each."""
        texts = [_bytes_of(column) for column in columns]
        between = pa.scalar(b"\x1f", pa.large_binary())
        lines = pc.binary_join_element_wise(
            *texts, between, null_handling="replace", null_replacement=b"\x1e"
        )
        hashes = b"".join([sha256(line).digest() for line in lines.to_pylist()])
        words = np.frombuffer(hashes, ">u4").reshape(-1, 8)
        self._add(words)
        high, low = words[:, 0].astype(np.uint64), words[:, 1].astype(np.uint64)
        return (high << np.uint64(32)) | low

    def add_hashes(self, column: pa.Array) -> None:
        """Add rows that are known by a SHA-256 in hex; what is none is passed over."""
        is_one = pc.fill_null(pc.match_substring_regex(column, "^[0-9a-f]{64}$"), fill_value=False)
        hashes = "".join(column.filter(is_one).to_pylist())
        self._add(np.frombuffer(bytes.fromhex(hashes), ">u4").reshape(-1, 8))

    def hexdigest(self) -> str:
        """Of all rows so far: 64 digits."""
        return f"{self._sum:064x}"

    def _add(self, words: NDArray[np.uint32]) -> None:
        for place, total in enumerate(words.sum(axis=0, dtype=np.uint64).tolist()):
            self._sum += total << (32 * (7 - place))
        self._sum %= 1 << _BITS


def _bytes_of(column: pa.Array) -> pa.Array:
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return pc.cast(column, pa.large_binary())
    return pc.cast(pc.cast(column, pa.large_string()), pa.large_binary())
