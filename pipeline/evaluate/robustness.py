"""Robustness: does a model lose less under natural shifts than others of its accuracy? CLIP 3.3.

Accuracies on shifted images lie on a line over those on the reference, both as logits (Taori et al.
2020, arXiv 2007.00644). Effective robustness is how far a model lies above the line of the others.
Shapes: M models, R resamples.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit, logit

from pipeline.errors import BadInput
from pipeline.evaluate.metrics import RESAMPLES, Floats, middle

_SEED = 0
_LEAST_MODELS = 3
_COLUMNS = ("model", "reference", "shifted")


@dataclass(frozen=True)
class Counted:
    """Right answers of so many images."""

    right: int
    images: int

    @property
    def share(self) -> float:
        return self.right / self.images


@dataclass(frozen=True)
class Baselines:
    """The accuracies of other models."""

    models: list[str]
    reference_M: Floats
    shifted_M: Floats


@dataclass(frozen=True)
class Line:
    """Over logits."""

    slope: float
    intercept: float

    def at(self, accuracy: float) -> float:
        """The accuracy under shift that others have whose reference accuracy is this one."""
        return float(expit(self.slope * logit(accuracy) + self.intercept))


def read(path: Path, evalset: str | None) -> Baselines:
    """The models of a CSV that were measured on the shifted set of that name, or on the mean of the
    sets (None). Raises BadInput, naming the line."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            columns = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = columns
            rows = list(enumerate(reader, 2))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path} cannot be read ({error}): name a CSV of baselines") from None
    missing = [name for name in _COLUMNS if name not in columns]
    if missing:
        raise BadInput(
            f"{path} lacks the column {missing[0]}: baselines have model, reference and shifted, "
            "and `set` where the shifted sets are told apart"
        )
    rows = [(n, row) for n, row in rows if (row.get("set") or "").strip() == (evalset or "")]
    pairs = [tuple(_share(path, n, row, name) for name in _COLUMNS[1:]) for n, row in rows]
    reference_M, shifted_M = np.array(pairs, np.float64).reshape(-1, 2).T
    return Baselines([row["model"] for _, row in rows], reference_M, shifted_M)


def _share(path: Path, number: int, row: dict[str, str], name: str) -> float:
    try:
        found = float(row[name])
    except (TypeError, ValueError):
        found = float("nan")
    if not 0 < found < 1:
        raise BadInput(
            f"{path}, line {number}: {name} is `{row[name]}`; accuracies are shares between 0 and "
            "1, both left out, since they have no logit"
        )
    return found


def fitted(baselines: Baselines) -> Line | None:
    """Least squares over logits; None where fewer than three models, or one accuracy, fix none."""
    return _fitted(logit(baselines.reference_M), logit(baselines.shifted_M))


def _fitted(x_M: Floats, y_M: Floats) -> Line | None:
    if len(x_M) < _LEAST_MODELS or np.ptp(x_M) < 1e-9:
        return None
    x_off, y_off = x_M - x_M.mean(), y_M - y_M.mean()
    slope = float((x_off @ y_off) / (x_off @ x_off))
    return Line(slope, float(y_M.mean() - slope * x_M.mean()))


def effective(
    reference: Sequence[Counted], shifted: Sequence[Counted], baselines: Baselines | None
) -> dict[str, Any]:
    """How a model does on shifted sets: the gap to its reference accuracy, and how far above the
    line of others it lies. Of several sets the mean is taken.

    The intervals hold what the images leave open (Jeffreys') and, of the line, which models it is
    of (they are drawn again).
    """
    x, y = _mean([one.share for one in reference]), _mean([one.share for one in shifted])
    chance = np.random.default_rng(_SEED)
    x_R, y_R = _drawn(reference, chance), _drawn(shifted, chance)
    told: dict[str, Any] = {"reference_accuracy": x, "shifted_accuracy": y, "gap": x - y}
    told |= dict(zip(("gap_low", "gap_high"), middle(x_R - y_R), strict=True))
    told |= {"effective_robustness": None, "low": None, "high": None, "line": None, "note": ""}
    if baselines is None:
        return {**told, "note": "without baselines there is no line to compare with"}
    line = fitted(baselines)
    if line is None:
        models = len(baselines.models)
        return {**told, "note": f"{models} models of baselines fix no line: give three or more"}
    told["line"] = {"slope": line.slope, "intercept": line.intercept}
    if not 0 < x < 1:
        return {**told, "note": f"a reference accuracy of {x:.0%} has no logit"}
    above_R = []
    x_M, y_M = logit(baselines.reference_M), logit(baselines.shifted_M)
    for x_one, y_one in zip(x_R, y_R, strict=True):
        rows = chance.integers(len(x_M), size=len(x_M))
        other = _fitted(x_M[rows], y_M[rows]) or line
        above_R.append(y_one - other.at(x_one))
    low, high = middle(np.array(above_R))
    above = y - line.at(x)
    return {**told, "effective_robustness": above, "low": low, "high": high}


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _drawn(of: Sequence[Counted], chance: np.random.Generator) -> Floats:
    """R: what the accuracies may be, given how many images there are."""
    drawn = [chance.beta(c.right + 0.5, c.images - c.right + 0.5, RESAMPLES) for c in of]
    found: Floats = np.mean(drawn, axis=0).clip(1e-9, 1 - 1e-9)
    return found
