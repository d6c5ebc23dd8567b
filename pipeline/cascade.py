"""Cascade: what the hashes of two images say about them, and what a second look adds."""

import numpy as np
from numpy.typing import NDArray

from pipeline.settings import DedupSettings

VERDICTS = ("overlap", "candidate", "undecidable", "unrelated")
"""The same picture; near, and not confirmed; too flat to say; near by chance, so that no row is
written of it. The nearest first."""
_OVERLAP, _CANDIDATE, _UNDECIDABLE, _UNRELATED = range(4)


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
    is_candidate = pdq <= settings.candidate_pdq_distance
    unconfirmed = np.where(is_candidate, _CANDIDATE, _UNRELATED)
    confirmed = np.where(is_near | is_sure, _OVERLAP, unconfirmed)
    is_flat = quality < settings.min_quality
    by_hashes = np.where(is_flat, _UNDECIDABLE, confirmed)
    return np.where(is_same, _OVERLAP, by_hashes)
