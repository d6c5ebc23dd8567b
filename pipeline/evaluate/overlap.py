"""Overlap: a score on all, on the clean and on the overlapping images. CLIP, section 5.

Shapes: N images.
"""

from typing import Any

import numpy as np
from scipy.stats import binomtest

from pipeline.evaluate import metrics
from pipeline.evaluate.metrics import Answers, Bools, Value

NOT_AUDITED = "no audit tells which of its images the corpus holds"


def by_overlap(answers: Answers, overlaps_N: Bools | None, metric: str) -> dict[str, Any]:
    """Every measure of all, of the clean and of the overlapping images; `score` is the metric's.

    `all_minus_clean` is of the score, with the interval of resamples. `p_value` is the chance that
    so many overlapping images are right when they are as hard as the clean ones; it is None, and
    `note` says why, where that cannot be asked.
    """
    clean_N, overlap_N = parts(len(answers.truth_N), overlaps_N)
    told: dict[str, Any] = {
        "metric": metric,
        "all": part(answers, metric),
        "clean": part(answers.only(clean_N), metric),
        "overlap": part(answers.only(overlap_N), metric),
    }
    moved = None
    if metric in metrics.names(answers):
        moved = metrics.value(metric, answers)
    told |= all_minus_clean(moved, overlaps_N)
    clean = told["clean"].get("accuracy")
    told["p_value"] = None
    if told["note"] or clean is None:
        return told
    right = int(answers.right()[overlap_N].sum())
    test = binomtest(right, int(overlap_N.sum()), clean, alternative="greater")
    told["p_value"] = float(test.pvalue)
    return told


def parts(images: int, overlaps_N: Bools | None) -> tuple[Bools, Bools]:
    """The clean and the overlapping images. Where nobody looked for them no image is either."""
    if overlaps_N is None:
        return np.zeros(images, np.bool_), np.zeros(images, np.bool_)
    return ~overlaps_N, overlaps_N


def part(answers: Answers, metric: str) -> dict[str, Any]:
    """Every measure of some images, the score's and accuracy's where all look for them."""
    found = {name: metrics.measure(name, answers)._asdict() for name in metrics.names(answers)}
    told: dict[str, Any] = {"images": len(answers.truth_N), "score": found.get(metric)}
    if "accuracy" in found:
        of = found["accuracy"]
        told |= {"accuracy": of["value"], "low": of["low"], "high": of["high"]}
    return {**told, "measures": found}


def all_minus_clean(of: Value | None, overlaps_N: Bools | None) -> dict[str, Any]:
    """How much the overlapping images move a value; resamples keep how many overlap."""
    told = {"all_minus_clean": None, "all_minus_clean_low": None, "all_minus_clean_high": None}
    if overlaps_N is None:
        return {**told, "note": NOT_AUDITED}
    images, overlapping = len(overlaps_N), int(overlaps_N.sum())
    if not overlapping:
        return {**told, "note": "no image overlaps the corpus as far as hashes tell"}
    if overlapping == images:
        return {**told, "note": "every image overlaps it"}
    if of is None:
        return {**told, "note": ""}
    # The clean images first: resamples come one group behind the other.
    order_N = np.argsort(overlaps_N, kind="stable")
    is_clean_N = ~overlaps_N

    def moved(weight_N: metrics.Floats) -> float:
        own_N = np.empty(images)
        own_N[order_N] = weight_N
        return of(own_N) - of(own_N * is_clean_N)

    ends = metrics.percentiles(moved, metrics.resamples(images - overlapping, overlapping))
    found = moved(np.ones(images))
    return {
        "all_minus_clean": float(found) if np.isfinite(found) else None,
        "all_minus_clean_low": ends[0],
        "all_minus_clean_high": ends[1],
        "note": "",
    }


def corrected(told: dict[str, Any], significance: float) -> int:
    """Lay Bonferroni's level of all tests into them; how many tests there are."""
    tests = [found for found in _tests(told) if found["p_value"] is not None]
    for found in tests:
        found["level"] = significance / len(tests)
        found["is_significant"] = found["p_value"] <= found["level"]
    return len(tests)


def _tests(told: dict[str, Any]) -> list[dict[str, Any]]:
    parts = [one.get(name) for one in told.values() for name in ("zero_shot", "linear_probe")]
    return [found for found in parts if found is not None and "p_value" in found]
