"""The linear probe beside scikit-learn's logistic regression: CPU time to the same objective.

python -m benchmarks.probe [ROWS WIDTH CLASSES]. Features are drawn: clusters whose columns have
falling scales, as a model's have.
"""

import sys
import warnings
from collections.abc import Callable
from importlib.metadata import version

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from benchmarks.form import Figure, alternate, publish
from pipeline.evaluate import probe
from pipeline.evaluate.logistic import Fitted, Regression

PEER = f"scikit-learn {version('scikit-learn')}"
STRENGTHS = (0.01, 1.0, 100.0)
SLACK, ROUNDS = 1e-3, 3
"""SLACK: how far above the least objective is near enough."""
TOLERANCES = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9)
"""The first is scikit-learn's default."""


def features(rows: int, width: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(0)
    scales = np.arange(1, width + 1) ** -0.5
    scales /= np.sqrt(np.square(scales).sum())
    centres = chance.standard_normal((classes, width))
    truth = chance.integers(0, classes, rows)
    drawn = 0.5 * centres[truth] + chance.standard_normal((rows, width))
    return (10 * scales * drawn + 0.3).astype(np.float64), truth


def peer_of(x: np.ndarray, truth: np.ndarray, strength: float, tolerance: float) -> Fitted:
    theirs = LogisticRegression(C=strength, max_iter=1000, tol=tolerance).fit(x, truth)
    weight, bias = torch.from_numpy(theirs.coef_.T.copy()), torch.from_numpy(theirs.intercept_)
    return Fitted(weight, bias, True, int(theirs.n_iter_[0]))


def one_strength(x: np.ndarray, truth: np.ndarray, classes: int) -> list[Figure]:
    """Fits of one C, from nothing, to within SLACK of the least objective where the peer gets
    there by any tolerance of its own."""
    targets = torch.from_numpy(truth[:, None] == np.arange(classes))
    figures = []
    for strength in STRENGTHS:
        data = Regression(torch.from_numpy(x), targets, "softmax")
        least = data.objective(data.fit(strength, tolerance=1e-11), strength)
        mine = next(
            t
            for t in TOLERANCES
            if _over(data, data.fit(strength, None, t), strength, least) <= SLACK
        )
        overs: list[float] = []
        for theirs in TOLERANCES:
            overs.append(_over(data, peer_of(x, truth, strength, theirs), strength, least))
            if overs[-1] <= SLACK:
                break
        print(
            f"C={strength:g}: {PEER} ends {overs[0]:.1e} above the least by its default tolerance, "
            f"{overs[-1]:.1e} by {theirs:g}"
        )

        def ours(strength: float = strength, tolerance: float = mine) -> object:
            fresh = Regression(torch.from_numpy(x), targets, "softmax")
            return fresh.fit(strength, None, tolerance)

        def peer(strength: float = strength, tolerance: float = theirs) -> object:
            return peer_of(x, truth, strength, tolerance)

        seconds = alternate({"ours": ours, "peer": peer}, rounds=ROUNDS)
        name = f"fits, C={strength:g}, to {max(overs[-1], SLACK):.0e} of the objective"
        figures.append(Figure(name, 1 / seconds["ours"], "fits/s", 1 / seconds["peer"], PEER))
    return figures


def _over(data: Regression, found: Fitted, strength: float, least: float) -> float:
    return data.objective(found, strength) / least - 1


def whole_sweep(x: np.ndarray, truth: np.ndarray) -> Figure:
    """The paper's search and the last fit, with scikit-learn's defaults as the peer."""
    train, labels = x.astype(np.float32), [f"{number:05}" for number in truth]
    is_held_out = probe._held_out(truth, 0)

    def peer() -> None:
        def score(strength: float) -> float:
            theirs = LogisticRegression(C=strength, max_iter=1000)
            theirs.fit(train[~is_held_out], truth[~is_held_out])
            return float(theirs.score(train[is_held_out], truth[is_held_out]))

        strength, best = probe.search(score, 4)
        LogisticRegression(C=strength, max_iter=1000).fit(train, truth)
        print(f"{PEER}: C={strength:.3g}, held out {best:.4f}")

    def ours() -> None:
        found = probe.fit(train, labels, train[:1], 4, 0)
        assert not isinstance(found, str)
        print(f"ours: C={found.strength:.3g}, held out {found.held_out_score:.4f}")

    contest: dict[str, Callable[[], object]] = {"ours": ours, "peer": peer}
    seconds = alternate(contest, rounds=1)
    name = "sweeps (search and last fit), peer at its default tolerance"
    return Figure(name, 3600 / seconds["ours"], "sweeps/h", 3600 / seconds["peer"], PEER)


def main(rows: int, width: int, classes: int) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ConvergenceWarning)
    print(f"{rows:,} rows, {width} columns, {classes} classes")
    x, truth = features(rows, width, classes)
    publish("probe", [*one_strength(x, truth, classes), whole_sweep(x, truth)])


if __name__ == "__main__":
    main(*(map(int, sys.argv[1:4]) if len(sys.argv) > 3 else (10_000, 512, 100)))
