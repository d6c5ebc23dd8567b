"""Probe: how well a linear classifier does on a model's features. CLIP, 3.2 and appendix A.3.

Logistic regression by L-BFGS. Its strength C is chosen on the validation split, or on a part of
the training images that is held out, and the classifier is then fitted on all of them. Shapes: N
images, D width, K classes or labels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pipeline.evaluate.logistic import Fitted, Loss, Regression

Features = npt.NDArray[np.float32]
Truth = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Targets = npt.NDArray[np.bool_] | npt.NDArray[np.int8]
Measure = Callable[[Floats, Any], float]
"""A set's metric: from logits_NK and the truth, numbers of classes or for many labels NK, to a
score; the higher the better."""

_DECADES = 6
"""The search for C begins at 1e-6, 1e-4, ... 1e6."""
_HELD_OUT = 5
"""One image in this many of every class chooses C."""
_ROUGH, _FINE = 1e-4, 1e-8
"""Of the objective: what a step promises less than while C is searched, and in the last fit."""


@dataclass(frozen=True)
class How:
    """Where and in what numbers a probe is fitted."""

    device: torch.device
    dtype: torch.dtype | None = None
    """float64 when not given, and float32 on a GPU, as few are fast in float64. With a C beyond
    1e4 a loss may be so small that float32 ends early; the fit then says that it has not
    converged."""

    def sent(self, array: Any) -> torch.Tensor:
        own = torch.float32 if self.device.type == "cuda" else torch.float64
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device, self.dtype or own)


@dataclass(frozen=True)
class Scores:
    """What a probe says of test images, and how it was chosen."""

    logits_NK: Floats
    strength: float
    """C, the inverse of the L2 penalty."""
    held_out_score: float
    """By the set's metric."""
    has_converged: bool
    """False when the final fit used up its iterations."""


@dataclass(frozen=True)
class Probe:
    """What a linear probe predicts, and how it was chosen: as in `Scores`."""

    predicted: list[str]
    strength: float
    held_out_score: float
    has_converged: bool


def accuracy(logits_NK: Floats, truth_N: Truth) -> float:
    """The share of right answers."""
    return float((logits_NK.argmax(1) == truth_N).mean())


def fit(
    train_ND: Features,
    labels: list[str],
    test_ND: Features,
    halvings: int,
    seed: int,
    *,
    validation: tuple[Features, list[str]] | None = None,
    measure: Measure = accuracy,
    how: How | None = None,
) -> Probe | str:
    """The probe's predictions for `test_ND`, or why there is none."""
    found = fit_scores(
        train_ND, labels, test_ND, halvings, seed, validation=validation, measure=measure, how=how
    )
    if isinstance(found, str):
        return found
    classes = np.unique(np.array([*labels, *([] if validation is None else validation[1])]))
    predicted = [str(classes[number]) for number in found.logits_NK.argmax(1)]
    return Probe(predicted, found.strength, found.held_out_score, found.has_converged)


def fit_scores(
    train_ND: Features,
    labels: Sequence[str] | Truth,
    test_ND: Features,
    halvings: int,
    seed: int,
    *,
    validation: tuple[Features, Sequence[str] | Truth] | None = None,
    measure: Measure = accuracy,
    how: How | None = None,
) -> Scores | str:
    """As `fit`, with the logit of every class, in the order of their sorted names or numbers."""
    every_ND, every = train_ND, labels
    if validation is not None:
        every_ND, every = np.concatenate([train_ND, validation[0]]), [*labels, *validation[1]]
    classes, truth = np.unique(np.array(every), return_inverse=True)
    is_held_out = _held_out(truth, seed)
    if validation is not None:
        is_held_out = np.arange(len(truth)) >= len(labels)
    if len(np.unique(truth[~is_held_out])) < 2 or not is_held_out.any():
        return f"{len(labels)} training images of {len(classes)} classes are too few to fit on"
    targets_NK = truth[:, None] == np.arange(len(classes))
    data = _Data(every_ND, targets_NK, False, how or How(torch.device("cpu")))
    return _chosen(data, truth, is_held_out, test_ND, halvings, measure)


def fit_multilabel(
    train_ND: Features,
    targets_NK: Targets,
    test_ND: Features,
    halvings: int,
    seed: int,
    *,
    measure: Measure,
    validation: tuple[Features, Targets] | None = None,
    how: How | None = None,
) -> Scores | str:
    """A logistic regression for each label against all others, with one C for all of them.

    A target that is neither 0 nor 1 is learned as 1; `measure` sees it as it is.
    """
    every_ND, every_NK = train_ND, targets_NK
    is_held_out = _held_out(np.zeros(len(targets_NK), np.int64), seed)
    if validation is not None:
        every_ND = np.concatenate([train_ND, validation[0]])
        every_NK = np.concatenate([targets_NK, validation[1]])
        is_held_out = np.arange(len(every_NK)) >= len(targets_NK)
    if not is_held_out.any() or not every_NK[~is_held_out].any():
        return f"{len(targets_NK)} training images are too few to fit on"
    data = _Data(every_ND, every_NK != 0, True, how or How(torch.device("cpu")))
    return _chosen(data, every_NK, is_held_out, test_ND, halvings, measure)


def search(score: Callable[[float], float], halvings: int) -> tuple[float, float]:
    """The best C and its score: of seven from 1e-6 to 1e6 first, then beside the best, halving the
    steps; four times gives CLIP's 8 steps a decade.

    Of strengths that are equally good the strongest penalty is taken.
    """
    unit = 2**halvings
    last = _DECADES * unit // 2
    known: dict[int, float] = {}
    best, step, places = 0, unit, [*range(-last, last + 1, unit)]
    while True:
        for place in places:
            known[place] = score(10.0 ** (2 * place / unit))
        best = min(known, key=lambda place: (-known[place], place))
        if step == 1:
            return 10.0 ** (2 * best / unit), known[best]
        step //= 2
        beside = (best - step, best + step)
        places = [place for place in beside if abs(place) <= last and place not in known]


@dataclass(frozen=True)
class _Data:
    """Images to fit on, and what they are of."""

    features_ND: Features
    targets_NK: Bools
    has_many_labels: bool
    how: How

    def present(self, rows: Bools) -> Truth:
        """The classes that images of these rows are of."""
        return np.flatnonzero(self.targets_NK[rows].any(0))

    def regression(self, rows: Bools, present: Truth) -> Regression:
        features, targets = self.how.sent(self.features_ND[rows]), self.targets_NK[rows]
        if not self.has_many_labels:
            targets = targets[:, present]
        # Two classes have one row of weights, as in scikit-learn: two rows would share the penalty.
        if not self.has_many_labels and targets.shape[1] == 2:
            return Regression(features, torch.from_numpy(targets[:, 1:]), "sigmoid")
        loss: Loss = "sigmoid" if self.has_many_labels else "softmax"
        return Regression(features, torch.from_numpy(targets), loss)

    def logits(self, found: Fitted, present: Truth, features_ND: torch.Tensor) -> Floats:
        """Of every class; of one that is not `present`, as no image was fitted on it, the least."""
        told: Floats = found.logits(features_ND).double().cpu().numpy()
        if self.has_many_labels:
            return told
        if len(present) == 2:
            told = np.concatenate([np.zeros_like(told), told], axis=1)
        every_NK = np.full((len(told), self.targets_NK.shape[1]), -np.inf)
        every_NK[:, present] = told
        return every_NK


def _chosen(
    data: _Data, truth: Any, is_held_out: Bools, test_ND: Features, halvings: int, measure: Measure
) -> Scores | str:
    fits: dict[float, Fitted] = {}
    present, everything = data.present(~is_held_out), np.ones(len(is_held_out), dtype=bool)
    searched = data.regression(~is_held_out, present)
    held_ND, held_truth = data.how.sent(data.features_ND[is_held_out]), truth[is_held_out]

    def score(strength: float) -> float:
        near = min(fits, key=lambda other: (abs(np.log(other / strength)), other), default=None)
        start = None if near is None else fits[near]
        fits[strength] = searched.fit(strength, start, _ROUGH)
        return measure(data.logits(fits[strength], present, held_ND), held_truth)

    strength, best = search(score, halvings)
    if not np.isfinite(best):
        return f"the {int(is_held_out.sum())} images that would choose C do not fix the metric"
    all_present = data.present(everything)
    has_same_classes = np.array_equal(all_present, present)
    start = fits[strength] if has_same_classes or data.has_many_labels else None
    final = data.regression(everything, all_present).fit(strength, start, _FINE)
    logits = data.logits(final, all_present, data.how.sent(test_ND))
    return Scores(logits, strength, best, final.has_converged)


def _held_out(truth: Truth, seed: int) -> Bools:
    """N: a fifth of every class; of a class with fewer images than that, none."""
    chance = np.random.default_rng(seed)
    out = np.zeros(len(truth), dtype=bool)
    for number in np.unique(truth):
        of_class = chance.permutation(np.flatnonzero(truth == number))
        out[of_class[: len(of_class) // _HELD_OUT]] = True
    return out
