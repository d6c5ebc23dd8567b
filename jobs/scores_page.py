"""Scores page: what scores.json tells, as the lines of a table and figures."""

from typing import Any

import numpy as np
from scipy.special import expit, logit

from jobs import pictures

_WAYS = (("zero_shot", "zero-shot"), ("linear_probe", "linear probe"))
_METRICS = {
    "accuracy": "accuracy",
    "mean_per_class": "mean per class",
    "map_11_point": "11-point mAP",
    "mean_top1_top5": "mean of top-1 and top-5",
    "roc_auc": "ROC AUC",
    "recall_at_k": "recall",
}


def shown(told: dict[str, Any]) -> dict[str, Any]:
    """Every score that was measured as a line, and why others were not."""
    lines: list[dict[str, Any]] = []
    notes: list[str] = []
    for name, evalset in told["sets"].items():
        for key, label in _WAYS:
            found = evalset.get(key)
            if found is None:
                continue
            if "skipped" in found:
                notes.append(f"{name}, {label}: {found['skipped']}.")
                continue
            lines.append(_line(name, evalset, label, found))
            if found["note"]:
                notes.append(f"{name}: {found['note']}.")
        if "retrieval" in evalset:
            lines += _retrieved(name, evalset)
            if evalset["retrieval"]["note"]:
                notes.append(f"{name}: {evalset['retrieval']['note']}.")
        if lost := evalset["overlaps_of_no_image"]:
            notes.append(f"{name}: {lost:,} overlaps of the audit are of no image that was scored.")
    return {
        "model": told["model"],
        "checkpoint": told["checkpoint"],
        "step": told["step"],
        "tests": told["tests"],
        "lines": lines,
        "notes": list(dict.fromkeys(notes)),
        "robustness": [_robust(one) for one in told["robustness"]],
    }


def _line(name: str, evalset: dict[str, Any], label: str, found: dict[str, Any]) -> dict[str, Any]:
    return {
        "evalset": name,
        "way": label,
        "metric": _METRICS[evalset["metric"]],
        "images": found["all"]["images"],
        "overlapping": found["overlap"]["images"],
        "chance": evalset["chance"],
        "majority": evalset.get("majority"),
        "score": found["all"]["score"],
        "clean": found["clean"]["score"],
        "overlap": found["overlap"]["score"],
        "all_minus_clean": found["all_minus_clean"],
        "low": found["all_minus_clean_low"],
        "high": found["all_minus_clean_high"],
        "p_value": found["p_value"],
        "is_significant": found.get("is_significant", False),
    }


def _retrieved(name: str, evalset: dict[str, Any]) -> list[dict[str, Any]]:
    found = evalset["retrieval"]
    lines = []
    for key, score in found["all"]["measures"].items():
        way, _, k = key.rpartition("_")
        is_score = key == "recall_at_1"
        lines.append(
            {
                "evalset": name,
                "way": "both ways" if is_score else way.replace("_", " "),
                "metric": f"recall@{k}",
                "images": found["all"]["images"],
                "overlapping": found["overlap"]["images"],
                "chance": evalset["chance"] if is_score else None,
                "majority": None,
                "score": score,
                "clean": found["clean"]["measures"][key],
                "overlap": found["overlap"]["measures"][key],
                "all_minus_clean": found["all_minus_clean"] if is_score else None,
                "low": found["all_minus_clean_low"] if is_score else None,
                "high": found["all_minus_clean_high"] if is_score else None,
                "p_value": None,
                "is_significant": False,
            }
        )
    return lines


def _robust(told: dict[str, Any]) -> dict[str, Any]:
    """One reference and its shifted sets: a line of each, and of their mean a figure."""
    several = [{"name": "mean of all", **told["mean"]}] if len(told["sets"]) > 1 else []
    rows = [*({"name": name, **one} for name, one in told["sets"].items()), *several]
    drawn = next((row for row in reversed(rows) if row["line"] is not None), None)
    return {
        "reference": told["reference"],
        "rows": rows,
        "picture": None if drawn is None else _figure(told["reference"], drawn),
    }


def _figure(reference: str, row: dict[str, Any]) -> str:
    x_M = [other["reference"] for other in row["others"]]
    y_M = [other["shifted"] for other in row["others"]]
    own = row["reference_accuracy"]
    low, high = logit(min(*x_M, own)), logit(max(*x_M, own))
    x = expit(np.linspace(max(low, -9.0), min(high, 9.0), 50))
    slope, intercept = row["line"]["slope"], row["line"]["intercept"]
    return pictures.above_a_line(
        (x_M, y_M),
        (x.tolist(), expit(slope * logit(x) + intercept).tolist()),
        (own, row["shifted_accuracy"]),
        labels=(f"accuracy on {reference}", f"accuracy on {row['name']}"),
    )
