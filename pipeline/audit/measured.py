"""Measured: what hashes find and what they take for the same, and what CLIP found. Not settings."""

from dataclasses import dataclass
from typing import Any

PHASH_CHANCE = {0: 1e-10, 2: 2.3e-9, 4: 2.7e-8, 8: 9.8e-7}
"""Chance that two unrelated images come within so many bits of pHash, for one comparison. Measured
on 1.04e10 pairs of unrelated photos; docs/decisions.md#near-duplicates."""

PDQ_CHANCE = {31: 2.9e-10}
"""The same for PDQ. None of those pairs came so near: this is the 95% bound of it."""


def phash_chance(distance: int) -> float:
    """The measured rate, or that of the next larger distance that was measured."""
    known = [rate for at, rate in PHASH_CHANCE.items() if at >= distance]
    return min(known, default=max(PHASH_CHANCE.values()))


def pdq_chance(distance: int, candidate_distance: int) -> float:
    """No more than this share of unrelated images comes within so many bits of PDQ and, since
    nothing else is compared, within `candidate_distance` bits of pHash."""
    known = [rate for at, rate in PDQ_CHANCE.items() if at >= distance]
    return min([*known, phash_chance(candidate_distance)])


@dataclass(frozen=True)
class Recall:
    """Shares of transformed copies that are found; None where it was not measured."""

    transformation: str
    phash_4: float | None
    """Within 4 bits of the original's pHash."""
    phash_8: float | None
    """Within 8 bits."""
    variants: float | None = None
    """Within 8 bits of the pHash of a variant."""
    phash_8_is_most: bool = False
    """`phash_8` is an upper bound."""


RECALL_SOURCE = "798 photographs; docs/decisions.md#near-duplicates"
RECALL = (
    Recall("JPEG of quality 30", 1.0, 1.0),
    Recall("shrunk to 25%", 1.0, 1.0),
    Recall("rotated by 1 degree", 0.81, 0.99),
    Recall("rotated by 2 degrees", 0.36, 0.87),
    Recall("cropped by 2%", 0.78, 0.99),
    Recall("cropped by 5%", 0.18, 0.65),
    Recall("cropped by 10%", 0.01, 0.11),
    Recall("cropped to a square", None, 0.11, 1.0, phash_8_is_most=True),
    Recall("padded to a square", None, 0.11, 1.0, phash_8_is_most=True),
    Recall("flipped", None, 0.11, 1.0, phash_8_is_most=True),
)

CLIP: dict[str, Any] = {
    "sets": 35,
    "median_overlap": 0.022,
    "mean_overlap": 0.032,
    "without": 9,
    "largest_overlap": 0.215,
    "largest_set": "Country211",
    "shifted": 7,
    "shifted_by": 0.001,
    "significant": 2,
    "largest_gain": 0.006,
    "largest_gain_set": "Birdsnap",
}
"""What CLIP found in its own corpus (Radford et al. 2021, section 5): in `shifted` sets overall
accuracy moved by more than `shifted_by`, in `significant` of them significantly after Bonferroni's
correction."""
