"""Metrics: what is reported of a set's answers, and how sure it is. CLIP, table 9.

Every metric is a function of weights, one an image: a resample of the images is a weighting.
Shapes: N images, K classes, R resamples.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from pipeline.intervals import interval

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Value = Callable[[Floats], float]
"""Of weights of N images; nan where they leave it undefined."""

CONFIDENCE = 0.95
RESAMPLES = 1000
_SEED = 0
TOP = 5
LEAST_CLASSES_FOR_TOP = 10


class Measure(NamedTuple):
    """A number and its interval; None where it is undefined."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Answers:
    """What a classifier answered for N images."""

    classes: int
    truth_N: Ints
    predicted_N: Ints
    in_top_N: Bools | None = None
    """Whether the truth is among the five best answers, where those are known."""
    positive_N: npt.NDArray[np.floating] | None = None
    """Of two classes, how much rather the second; where it is known."""
    scores_NK: npt.NDArray[np.floating] | None = None
    """Of each class, where an image may be of several."""
    targets_NK: npt.NDArray[np.int8] | None = None
    """1 is of the class, 0 is not, -1 is not asked; where an image may be of several."""

    def right(self) -> Bools:
        """N: whether the answer is the truth."""
        found: Bools = self.predicted_N == self.truth_N
        return found

    def only(self, rows_N: Bools) -> "Answers":
        """Those of some images."""
        parts = (self.in_top_N, self.positive_N, self.scores_NK, self.targets_NK)
        some = [None if part is None else part[rows_N] for part in parts]
        return Answers(self.classes, self.truth_N[rows_N], self.predicted_N[rows_N], *some)  # type: ignore[arg-type]


def ahead(score_NK: npt.NDArray[np.floating], own_N: Ints) -> Ints:
    """Of each row, how many columns score better than its own one; of equal ones the first is the
    better."""
    value_N1 = np.take_along_axis(score_NK, own_N[:, None], axis=1)
    is_before = np.arange(score_NK.shape[1]) < own_N[:, None]
    better, equal = score_NK > value_N1, score_NK == value_N1
    found: Ints = better.sum(axis=1) + (equal & is_before).sum(axis=1)
    return found


def names(answers: Answers) -> list[str]:
    """The metrics that can be told of the answers."""
    if answers.targets_NK is not None:
        return ["map_11_point"]
    found = ["accuracy", "mean_per_class"]
    if answers.in_top_N is not None and answers.classes >= LEAST_CLASSES_FOR_TOP:
        found += ["top5", "mean_top1_top5"]
    return [*found, "roc_auc"] if answers.positive_N is not None else found


def measure(name: str, answers: Answers) -> Measure:
    """One metric of the answers. Of no image nothing is known."""
    images = len(answers.truth_N)
    found = value(name, answers)(np.ones(images)) if images else np.nan
    if not np.isfinite(found):
        return Measure(None, None, None)
    if name in ("accuracy", "top5"):
        hits_N = answers.right() if name == "accuracy" else _told(answers.in_top_N)
        return Measure(found, *interval(int(hits_N.sum()), images, CONFIDENCE, "wilson"))
    if name == "mean_per_class":
        return Measure(found, *_of_mean(answers))
    if name == "roc_auc":
        return Measure(found, *_delong(_told(answers.positive_N), answers.truth_N == 1, found))
    return Measure(found, *percentiles(value(name, answers), resamples(images)))


def value(name: str, answers: Answers) -> Value:
    """The metric as a function of the images' weights; what can be done once is done here."""
    if name == "accuracy":
        return _mean(answers.right())
    if name in ("top5", "mean_top1_top5"):
        in_top_N = _told(answers.in_top_N)
        best_N = answers.right() if name == "mean_top1_top5" else in_top_N
        return _mean((best_N + in_top_N.astype(np.float64)) / 2)
    if name == "mean_per_class":
        truth_N, right_N, classes = answers.truth_N, answers.right(), answers.classes

        def mean_per_class(weight_N: Floats) -> float:
            sizes_K = np.bincount(truth_N, weight_N, classes)
            found_K = np.bincount(truth_N, weight_N * right_N, classes)
            has_K = sizes_K > 0
            return float((found_K[has_K] / sizes_K[has_K]).mean()) if has_K.any() else np.nan

        return mean_per_class
    if name == "roc_auc":
        return _roc_auc(_told(answers.positive_N), answers.truth_N == 1)
    return _map_11_point(_told(answers.scores_NK), _told(answers.targets_NK))


_Part = TypeVar("_Part")


def _told(part: _Part | None) -> _Part:
    if part is None:
        raise ValueError("the answers do not tell this metric: `names` has those that they do")
    return part


def _mean(values_N: npt.NDArray[np.floating] | Bools) -> Value:
    def mean(weight_N: Floats) -> float:
        total = weight_N.sum()
        return float(weight_N @ values_N / total) if total else np.nan

    return mean


def _roc_auc(score_N: npt.NDArray[np.floating], is_positive_N: Bools) -> Value:
    """The chance that a positive is above a negative; equal scores count half."""
    _, place_N = np.unique(score_N, return_inverse=True)

    def roc_auc(weight_N: Floats) -> float:
        above = np.bincount(place_N, weight_N * is_positive_N)
        below = np.bincount(place_N, weight_N * ~is_positive_N)
        pairs = above.sum() * below.sum()
        wins = above @ (np.cumsum(below) - below / 2)
        return float(wins / pairs) if pairs else np.nan

    return roc_auc


def _map_11_point(scores_NK: npt.NDArray[np.floating], targets_NK: npt.NDArray[np.int8]) -> Value:
    """Pascal VOC's, as its devkit has it: the mean over classes of the precision at eleven recalls,
    each the best at that recall or a higher one. Equal scores stand in the order of the images."""
    order_NK = np.argsort(-scores_NK, axis=0, kind="stable")
    sorted_NK = np.take_along_axis(targets_NK, order_NK, axis=0)

    def map_11_point(weight_N: Floats) -> float:
        precisions = []
        for order_N, target_N in zip(order_NK.T, sorted_NK.T, strict=True):
            ordered_N = weight_N[order_N]
            hits_N = np.cumsum(ordered_N * (target_N == 1))
            if not len(hits_N) or not hits_N[-1]:
                continue
            shown_N = hits_N + np.cumsum(ordered_N * (target_N == 0))
            precision_N = np.divide(hits_N, shown_N, out=np.zeros_like(hits_N), where=shown_N > 0)
            best_N = np.maximum.accumulate(precision_N[::-1])[::-1]
            # Without division: a recall of just 3/10 reaches 0.3.
            first = np.searchsorted(10 * hits_N, np.arange(11) * hits_N[-1], side="left")
            precisions.append(best_N[first].mean())
        return float(np.mean(precisions)) if precisions else np.nan

    return map_11_point


# -- intervals -----------------------------------------------------------------------------


def resamples(*groups: int) -> Iterator[Floats]:
    """R weightings: as many images drawn again from each group, one group behind the other."""
    chance = np.random.default_rng(_SEED)
    for _ in range(RESAMPLES):
        drawn = [np.bincount(chance.integers(n, size=n), minlength=n) for n in groups if n]
        yield np.concatenate(drawn).astype(np.float64)


def percentiles(of: Value, weightings: Iterator[Floats]) -> tuple[float | None, float | None]:
    """The middle of what resamples give; None where too few give anything."""
    found = np.array([of(weight_N) for weight_N in weightings])
    found = found[np.isfinite(found)]
    if len(found) < RESAMPLES / 2:
        return None, None
    return middle(found)


def middle(values: Floats) -> tuple[float, float]:
    """The ends of what is left when as little is cut from both sides as CONFIDENCE says."""
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _of_mean(answers: Answers) -> tuple[float, float]:
    """Of a mean of shares, from the Wilson interval of each (Zou and Donner 2008): what the shares
    may be off adds up as independent errors do. With one class it is Wilson's."""
    sizes_K = np.bincount(answers.truth_N, minlength=answers.classes)
    found_K = np.bincount(answers.truth_N, answers.right(), answers.classes)
    shares = np.array([f / n for f, n in zip(found_K, sizes_K, strict=True) if n])
    ends = np.array(
        [
            interval(int(f), int(n), CONFIDENCE, "wilson")
            for f, n in zip(found_K, sizes_K, strict=True)
            if n
        ]
    )
    below, above = shares - ends[:, 0], ends[:, 1] - shares
    mean, classes = shares.mean(), len(shares)
    low, high = mean - np.sqrt(below @ below) / classes, mean + np.sqrt(above @ above) / classes
    return float(max(low, 0.0)), float(min(high, 1.0))


def _delong(
    score_N: npt.NDArray[np.floating], is_positive_N: Bools, area: float
) -> tuple[float | None, float | None]:
    """DeLong's, of a ROC curve's area (DeLong, DeLong and Clarke-Pearson 1988)."""
    _, place_N = np.unique(score_N, return_inverse=True)
    above, below = np.bincount(place_N, is_positive_N), np.bincount(place_N, ~is_positive_N)
    # Of each positive the share of negatives below it, and of each negative that above it.
    wins = (np.cumsum(below) - below / 2)[place_N[is_positive_N]] / below.sum()
    losses = (above.sum() - np.cumsum(above) + above / 2)[place_N[~is_positive_N]] / above.sum()
    if min(len(wins), len(losses)) < 2:
        return None, None
    spread = np.sqrt(wins.var(ddof=1) / len(wins) + losses.var(ddof=1) / len(losses))
    reach = 1.959963984540054 * spread  # the normal's 97.5%
    return float(max(area - reach, 0.0)), float(min(area + reach, 1.0))
