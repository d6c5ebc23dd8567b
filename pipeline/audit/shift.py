"""Shift: what overlap does to a model's accuracy, and whether chance would do it. CLIP section 5.

The overlapping images are asked whether they do better than the clean ones, in one tail, with the
accuracy on the clean ones as the null. Shapes: N images.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv
from scipy.stats import binom, binomtest

from pipeline.intervals import interval
from pipeline.settings import AuditSettings

Answers = NDArray[np.bool_]


@dataclass(frozen=True)
class Score:
    """Right answers of some images, and the exact interval of their share."""

    images: int
    right: int
    accuracy: float | None
    low: float
    high: float


@dataclass(frozen=True)
class Shift:
    """One model on one evaluation set."""

    model: str
    evalset: str
    all: Score
    clean: Score
    overlap: Score
    all_minus_clean: float | None
    p_value: float | None
    """Chance that the overlapping images do so well when they are as hard as the clean ones."""
    level: float | None
    """The p-value below which it is significant: Bonferroni's, of all tests."""
    needed: int | None
    """Right answers among the overlapping images from which on it is significant."""
    is_testable: bool
    is_significant: bool
    power: float | None
    """Chance of a significant result if overlap raises accuracy by `gain`."""
    gain: float
    smallest_gain: float | None
    """That is found significant with the chance that the settings ask for."""
    note: str


def shifts(
    answers: Mapping[tuple[str, str], tuple[Answers, Answers]], settings: AuditSettings
) -> list[Shift]:
    """Of each model and set: `answers` has which images were right, and which overlap."""
    described = [
        _described(model, evalset, right_N, overlaps_N, settings)
        for (model, evalset), (right_N, overlaps_N) in sorted(answers.items())
    ]
    tests = sum(shift.p_value is not None for shift in described)
    return [_judged(shift, settings.significance / max(1, tests), settings) for shift in described]


def over_all(told: list[Shift], moved_by: float) -> dict[str, int]:
    """How often accuracy moved, and what the tests found: what CLIP tells of its sets."""
    moved = [s.all_minus_clean for s in told if s.all_minus_clean is not None]
    return {
        "compared": len(moved),
        "shifted": sum(abs(by) > moved_by for by in moved),
        "tests": sum(s.p_value is not None for s in told),
        "significant": sum(s.is_significant for s in told),
        "not_testable": sum(s.p_value is not None and not s.is_testable for s in told),
    }


def needed(trials: int, null: float, level: float) -> int:
    """The fewest successes that are significant; trials + 1 where none are."""
    if null >= 1.0:
        return trials + 1
    count = int(binom.isf(level, trials, null)) + 1 if null > 0 else 1
    # Whatever the inverse rounds, the tail itself decides.
    while count <= trials and binom.sf(count - 1, trials, null) > level:
        count += 1
    while count > 0 and binom.sf(count - 2, trials, null) <= level:
        count -= 1
    return count


def power(trials: int, least: int, share: float) -> float:
    """The chance of at least `least` successes."""
    return float(binom.sf(least - 1, trials, min(1.0, share)))


def _described(
    model: str, evalset: str, right_N: Answers, overlaps_N: Answers, settings: AuditSettings
) -> Shift:
    clean = _score(right_N[~overlaps_N], settings.confidence)
    overlap = _score(right_N[overlaps_N], settings.confidence)
    whole = _score(right_N, settings.confidence)
    shift = Shift(
        model=model,
        evalset=evalset,
        all=whole,
        clean=clean,
        overlap=overlap,
        all_minus_clean=None,
        p_value=None,
        level=None,
        needed=None,
        is_testable=False,
        is_significant=False,
        power=None,
        gain=settings.gain,
        smallest_gain=None,
        note="",
    )
    if whole.accuracy is None:
        return replace(shift, note="no predictions")
    if clean.accuracy is None:
        return replace(shift, note="every image overlaps: there is none to compare with")
    moved = whole.accuracy - clean.accuracy
    if not overlap.images:
        return replace(shift, all_minus_clean=moved, note="no image overlaps")
    tested = binomtest(overlap.right, overlap.images, clean.accuracy, alternative="greater")
    return replace(shift, all_minus_clean=moved, p_value=float(tested.pvalue))


def _judged(shift: Shift, level: float, settings: AuditSettings) -> Shift:
    """`shift` with what its test could have found, and what it did."""
    if shift.p_value is None or shift.clean.accuracy is None:
        return shift
    trials, null = shift.overlap.images, shift.clean.accuracy
    least = needed(trials, null, level)
    if least > trials:
        why = f"not testable: {trials} right of {trials} would not be significant"
        return replace(shift, level=level, note=why)
    # The accuracy at which `least` right answers are as likely as asked for.
    sure = float(betaincinv(least, trials - least + 1, settings.power))
    return replace(
        shift,
        level=level,
        needed=least,
        is_testable=True,
        is_significant=shift.overlap.right >= least,
        power=power(trials, least, null + settings.gain),
        smallest_gain=max(0.0, sure - null),
    )


def _score(right_N: Answers, confidence: float) -> Score:
    right, images = int(right_N.sum()), len(right_N)
    low, high = interval(right, images, confidence)
    return Score(images, right, right / images if images else None, low, high)
