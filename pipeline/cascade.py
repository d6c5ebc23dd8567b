"""Cascade: what the hashes of two images say about them."""

import numpy as np
from numpy.typing import NDArray

from pipeline.settings import DedupSettings

VERDICTS = ("overlap", "candidate", "undecidable")
"""The same picture; near, and not confirmed; too flat to say. The nearest first."""
_OVERLAP, _CANDIDATE, _UNDECIDABLE = range(3)


def verdicts(
    phash: NDArray[np.int64],
    pdq: NDArray[np.int64],
    quality: NDArray[np.int64],
    is_same: NDArray[np.bool_],
    settings: DedupSettings,
) -> NDArray[np.int64]:
    """The place in VERDICTS of each pair of images.

    `phash` and `pdq` are Hamming distances, `quality` the lower of both images' PDQ qualities,
    `is_same` whether their bytes or pixels are equal. One row a pair.
    """
    is_near = pdq <= settings.pdq_distance
    is_sure = (phash <= settings.sure_phash_distance) & (pdq <= settings.wide_pdq_distance)
    confirmed = np.where(is_near | is_sure, _OVERLAP, _CANDIDATE)
    is_flat = quality < settings.min_quality
    by_hashes = np.where(is_flat, _UNDECIDABLE, confirmed)
    return np.where(is_same, _OVERLAP, by_hashes)
