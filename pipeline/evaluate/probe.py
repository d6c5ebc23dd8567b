"""Probe: how well a linear classifier does on a model's features. CLIP, section 3.2.

Logistic regression by L-BFGS; its strength C is chosen on a part of the training images that is
held out, and the classifier is then fitted on all of them. Shapes: N images, D width.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

_MAX_ITERATIONS = 1000
"""CLIP, appendix A.3."""
_HELD_OUT = 5
"""One image in this many of every class chooses C."""


@dataclass(frozen=True)
class Probe:
    """What a linear probe predicts, and how it was chosen."""

    predicted: list[str]
    strength: float
    """C, the inverse of the L2 penalty."""
    held_out_accuracy: float
    has_converged: bool
    """False when the final fit used up its iterations."""


def fit(
    train_ND: npt.NDArray[np.float32],
    labels: list[str],
    test_ND: npt.NDArray[np.float32],
    strengths: int,
    seed: int,
) -> Probe | str:
    """The probe's predictions for `test_ND`, or why there is none.

    Of strengths that are equally good the strongest penalty is taken.
    """
    classes, truth = np.unique(np.array(labels), return_inverse=True)
    is_held_out = _held_out(truth, seed)
    if len(np.unique(truth[~is_held_out])) < 2 or not is_held_out.any():
        return f"{len(labels)} training images of {len(classes)} classes are too few to fit on"
    best_accuracy, best = -1.0, 0.0
    for strength in np.logspace(-6, 6, strengths) if strengths > 1 else np.ones(1):
        model, _ = _fitted(train_ND[~is_held_out], truth[~is_held_out], float(strength))
        accuracy = float((model.predict(train_ND[is_held_out]) == truth[is_held_out]).mean())
        if accuracy > best_accuracy:
            best_accuracy, best = accuracy, float(strength)
    model, has_converged = _fitted(train_ND, truth, best)
    predicted = [str(classes[number]) for number in model.predict(test_ND)]
    return Probe(predicted, best, best_accuracy, has_converged)


def _held_out(truth: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.bool_]:
    """N: a fifth of every class; of a class with fewer images than that, none."""
    chance = np.random.default_rng(seed)
    out = np.zeros(len(truth), dtype=bool)
    for number in np.unique(truth):
        of_class = chance.permutation(np.flatnonzero(truth == number))
        out[of_class[: len(of_class) // _HELD_OUT]] = True
    return out


def _fitted(
    features_ND: npt.NDArray[np.float32], truth: npt.NDArray[np.int64], strength: float
) -> tuple[LogisticRegression, bool]:
    model = LogisticRegression(C=strength, max_iter=_MAX_ITERATIONS)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(features_ND, truth)
    return model, not any(issubclass(w.category, ConvergenceWarning) for w in told)
