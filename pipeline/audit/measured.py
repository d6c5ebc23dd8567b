"""Measured: what hashes find and what they take for the same, and what CLIP found. Not settings."""

from dataclasses import asdict, dataclass
from typing import Any

from pipeline.intervals import interval

COMPARISONS = 1_327_790_984
"""Of a copy of one photo with a variant of another. They are not independent."""
RATES_SOURCE = (
    "1,327,790,984 comparisons of changed copies of photos with the variants of other photos, and "
    "of 1,988 photos of clothing, hard to tell apart (make bench-recall; docs/decisions.md)"
)
PLAIN_RATE = 4.6e-9
"""What of photos alone, without the clothing, comes within the default distances: 2 of 4.4e8."""


@dataclass(frozen=True)
class _Seen:
    """How many of the comparisons came within both distances."""

    phash: int
    pdq: int
    count: int

    @property
    def rate(self) -> float:
        return self.count / COMPARISONS

    @property
    def bound(self) -> float:
        """One-sided, 95% (Clopper-Pearson), were the comparisons independent."""
        return interval(self.count, COMPARISONS, 0.9)[1]


_SEEN = (_Seen(4, 256, 16), _Seen(8, 31, 0), _Seen(8, 90, 258), _Seen(8, 256, 794))


def rates() -> list[dict[str, Any]]:
    """What was counted, with the chance and its bound, as plain values."""
    return [{**asdict(seen), "rate": seen.rate, "bound": seen.bound} for seen in _SEEN]


@dataclass(frozen=True)
class Chance:
    """With what chance an image comes near a variant of an unrelated one."""

    rate: float
    at_most: bool
    """A bound (95%, were the comparisons independent), as none was seen, or only wider distances
    were looked at."""


def chance(phash: int, pdq: int) -> Chance | None:
    """That both distances are within these; None where nothing so wide was measured."""
    wider = [seen for seen in _SEEN if seen.phash >= phash and seen.pdq >= pdq]
    for seen in wider:
        if (seen.phash, seen.pdq) == (phash, pdq) and seen.count:
            return Chance(seen.rate, at_most=False)
    return Chance(min(seen.bound for seen in wider), at_most=True) if wider else None


@dataclass(frozen=True)
class Recall:
    """Shares of transformed copies that are found, with the default settings."""

    transformation: str
    candidates: float
    """Within 8 bits of pHash and 90 of PDQ, of a variant."""
    hashes: float
    """Confirmed by PDQ."""
    verdict: float
    """Overlaps, after the second look."""
    without_variants: float
    """Overlaps, were the originals alone looked for."""


RECALL_SOURCE = "739 photos of COCO and ImageNet, make bench-recall; docs/decisions.md"
RECALL = (
    Recall("none", 1.0, 0.993, 1.0, 1.0),
    Recall("JPEG of quality 30", 1.0, 0.997, 1.0, 1.0),
    Recall("JPEG of quality 10", 1.0, 0.991, 1.0, 1.0),
    Recall("shrunk to 25%", 1.0, 0.98, 1.0, 1.0),
    Recall("rotated by 1 degree", 1.0, 0.919, 1.0, 0.996),
    Recall("rotated by 2 degrees", 1.0, 1.0, 1.0, 0.928),
    Recall("rotated by 5 degrees", 0.796, 0.026, 0.794, 0.169),
    Recall("rotated by 2 degrees, without the corners", 0.974, 0.026, 0.974, 0.798),
    Recall("2% cropped, anywhere", 0.999, 0.576, 0.999, 0.988),
    Recall("5% cropped, anywhere", 0.996, 0.211, 0.996, 0.663),
    Recall("10% cropped, anywhere", 0.831, 0.049, 0.831, 0.06),
    Recall("20% cropped, anywhere", 0.072, 0.005, 0.07, 0.0),
    Recall("2% cropped, around the centre", 0.999, 0.825, 0.999, 0.999),
    Recall("5% cropped, around the centre", 0.992, 0.046, 0.992, 0.894),
    Recall("10% cropped, around the centre", 1.0, 0.999, 1.0, 0.281),
    Recall("20% cropped, around the centre", 1.0, 0.996, 0.999, 0.003),
    Recall("lower 10% cut off", 1.0, 0.999, 1.0, 0.047),
    Recall("left 7% cut off", 0.993, 0.085, 0.993, 0.348),
    Recall("cropped to a square", 1.0, 0.997, 0.997, 0.085),
    Recall("padded to a square, white", 1.0, 0.92, 0.999, 0.081),
    Recall("padded to a square, black", 0.999, 0.92, 0.997, 0.08),
    Recall("border of 5%, white", 1.0, 0.927, 0.999, 0.127),
    Recall("border of 3%, black", 0.969, 0.069, 0.959, 0.552),
    Recall("flipped", 1.0, 1.0, 1.0, 0.0),
    Recall("flipped, 5% cropped around the centre", 0.984, 0.051, 0.984, 0.0),
    Recall("flipped, 10% cropped around the centre", 1.0, 0.997, 1.0, 0.0),
    Recall("brightness 1.3", 0.999, 0.961, 0.989, 0.984),
    Recall("contrast 0.6", 1.0, 0.991, 0.992, 0.992),
    Recall("blurred", 1.0, 1.0, 1.0, 1.0),
    Recall("a line of text", 0.986, 0.721, 0.962, 0.951),
    Recall("grey", 1.0, 0.993, 1.0, 1.0),
    Recall("shrunk to 50%, 5% cropped, JPEG of quality 50", 0.996, 0.188, 0.996, 0.671),
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
