"""Hash columns: fingerprints of a table as arrays, and rows grouped by what they share."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.kernels import GOLDEN, Bytes, kernel
from pipeline.lexicon import bounded
from pipeline.probes import Longs, Words


class Hashes(NamedTuple):
    """Columns of fingerprints as arrays."""

    phash: Words
    has_phash: NDArray[np.bool_]
    pdq: Words
    """Four words a row."""
    has_pdq: NDArray[np.bool_]
    quality: Longs
    sha256: Words
    """Two words that stand for the digest, a row; zeros where there is none."""
    pixels: Words


def hashes_of(batch: pa.RecordBatch) -> Hashes:
    """The hashes of fingerprints. What is no hash of 32 bytes is none."""
    phash = batch.column("phash")
    quality = batch.column("quality").cast(pa.int64())
    pdq, has_pdq = pdq_words(batch.column("pdq").cast(pa.binary()))
    return Hashes(
        phash.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64).view(np.uint64),
        phash.is_valid().to_numpy(zero_copy_only=False),
        pdq,
        has_pdq,
        # A reference that is a hash alone comes from a list of hashes: it is worth something.
        quality.fill_null(100).to_numpy(zero_copy_only=False),
        words_of(batch.column("sha256").cast(pa.string())),
        words_of(batch.column("pixels_sha256").cast(pa.string())),
    )


def pdq_words(column: pa.Array) -> tuple[Words, NDArray[np.bool_]]:
    """Four words a row, and whether they are a hash: zeros where not."""
    is_good = pc.equal(pc.binary_length(column), 32).fill_null(False)
    if is_good.true_count != len(column):
        column = pc.if_else(is_good, column, pa.scalar(bytes(32), pa.binary()))
    _, offsets, data = column.buffers()
    if data is None:
        return np.zeros((0, 4), np.uint64), np.zeros(0, np.bool_)
    begin = int(np.frombuffer(offsets, np.int32)[column.offset]) if len(column) else 0
    rows = np.frombuffer(data, np.uint8)[begin : begin + 32 * len(column)]
    words = np.ascontiguousarray(rows).view(np.uint64).reshape(-1, 4)
    return words, is_good.to_numpy(zero_copy_only=False)


def words_of(column: pa.Array) -> Words:
    """128 bits that stand for each text; zeros where there is none."""
    words = _texts(*bounded(column.fill_null("")))
    words[column.is_null().to_numpy(zero_copy_only=False)] = 0
    return words


@kernel
def _texts(text: Bytes, bounds: Longs) -> Words:
    words = np.empty((len(bounds) - 1, 2), np.uint64)
    for row in range(len(words)):
        one, two = np.uint64(GOLDEN), np.uint64(bounds[row + 1] - bounds[row] + 1)
        for place in range(bounds[row], bounds[row + 1]):
            # FNV-1a, and the multiplier of PCG: two that have nothing to do with one another.
            one = (one ^ np.uint64(text[place])) * np.uint64(0x100000001B3)
            two = two * np.uint64(6364136223846793005) + np.uint64(text[place]) + np.uint64(1)
        one = (one ^ one >> np.uint64(32)) * np.uint64(GOLDEN)
        words[row, 0], words[row, 1] = one ^ one >> np.uint64(29), two ^ two >> np.uint64(31)
    return words


class Groups(NamedTuple):
    """Rows by what they have in common."""

    keys: Words
    """Distinct, ascending: a row of words each."""
    bounds: Longs
    rows: Longs

    @classmethod
    def of(cls, keys: Words, rows: Longs, image: Longs | None = None) -> "Groups":
        """With `image`, only the first row of an image in each group."""
        order = np.lexsort((rows, *keys.T[::-1]))
        keys, rows = keys[order], rows[order]
        is_first = np.ones(len(keys), np.bool_)
        is_first[1:] = (keys[1:] != keys[:-1]).any(axis=1)
        if image is not None:
            is_further = is_first.copy()
            is_further[1:] |= image[rows[1:]] != image[rows[:-1]]
            keys, rows, is_first = keys[is_further], rows[is_further], is_first[is_further]
        bounds = np.append(np.flatnonzero(is_first), len(keys))
        return cls(keys[is_first], bounds, rows)

    def find(self, keys: Words) -> Longs:
        """The group of each key, or -1. The first word of two keys differs, or both are one."""
        if not len(self.keys):
            return np.full(len(keys), -1, np.int64)
        first = np.ascontiguousarray(self.keys[:, 0])
        place = np.minimum(np.searchsorted(first, keys[:, 0]), len(first) - 1)
        is_found = (self.keys[place] == keys).all(axis=1) & keys.any(axis=1)
        return np.where(is_found, place, -1)


def spread(begins: Longs, ends: Longs) -> tuple[Longs, Longs]:
    """Every place of every range, and which range it is of."""
    sizes = ends - begins
    which = np.repeat(np.arange(len(begins)), sizes)
    places = np.arange(len(which)) - np.repeat(np.cumsum(sizes) - sizes, sizes) + begins[which]
    return which, places
