"""Cascade: what the hashes of two images say about them, and what a second look adds."""

import numpy as np
from numpy.typing import NDArray

from pipeline.settings import DedupSettings

VERDICTS = ("overlap", "candidate", "undecidable", "unrelated")
"""The same picture; near, and not confirmed; too flat to say; near by chance, so that no row is
written of it. The nearest first."""
_OVERLAP, _CANDIDATE, _UNDECIDABLE, _UNRELATED = range(4)


def verdicts(
    pdq: NDArray[np.int64],
    quality: NDArray[np.int64],
    is_same: NDArray[np.bool_],
    settings: DedupSettings,
) -> NDArray[np.int64]:
    """The place in VERDICTS of each pair of images with near pHashes, or equal bytes or pixels.

    `pdq` are Hamming distances, `quality` the lower of both images' PDQ qualities, `is_same`
    whether bytes or pixels are equal. One row a pair.
    """
    unconfirmed = np.where(pdq <= settings.candidate_pdq_distance, _CANDIDATE, _UNRELATED)
    confirmed = np.where(pdq <= settings.pdq_distance, _OVERLAP, unconfirmed)
    is_flat = quality < settings.min_quality
    by_hashes = np.where(is_flat, _UNDECIDABLE, confirmed)
    return np.where(is_same, _OVERLAP, by_hashes)
