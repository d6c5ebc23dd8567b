"""Accuracy: shares of right answers, with how sure they are. Shapes: N images."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from pipeline.intervals import interval

Right = npt.NDArray[np.bool_]

_CONFIDENCE = 0.95


def accuracy(right_N: Right) -> dict[str, Any]:
    """The share of right answers and its Wilson interval."""
    right, images = int(right_N.sum()), len(right_N)
    if not images:
        return {"images": 0, "accuracy": None, "low": None, "high": None}
    low, high = interval(right, images, _CONFIDENCE, "wilson")
    return {"images": images, "accuracy": right / images, "low": low, "high": high}


def mean_per_class_recall(predicted: list[str], labels: list[str]) -> float:
    """The mean over classes of the share of their images that are found."""
    truth, found = np.array(labels), np.array(predicted)
    return float(np.mean([(found[truth == label] == label).mean() for label in np.unique(truth)]))


def by_overlap(right_N: Right, overlaps_N: Right) -> dict[str, Any]:
    """Accuracy on all, on the clean and on the overlapping images. CLIP, section 5.

    `p_value` is the chance that overlapping images do this well when they are as hard as the
    clean ones; it is None, and `note` says why, where that cannot be asked.
    """
    told = {
        "all": accuracy(right_N),
        "clean": accuracy(right_N[~overlaps_N]),
        "overlap": accuracy(right_N[overlaps_N]),
    }
    overlapping = int(overlaps_N.sum())
    if not overlapping or overlapping == len(right_N):
        clean = (
            "no image overlaps the shards as far as hashes tell"
            if not overlapping
            else "every image overlaps it"
        )
        return {**told, "all_minus_clean": None, "p_value": None, "note": clean}
    clean_accuracy = told["clean"]["accuracy"]
    test = binomtest(
        int(right_N[overlaps_N].sum()), overlapping, clean_accuracy, alternative="greater"
    )
    return {
        **told,
        "all_minus_clean": told["all"]["accuracy"] - clean_accuracy,
        "p_value": float(test.pvalue),
        "note": "",
    }
