"""The linear probe, beside scikit-learn's logistic regression."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from pipeline.evaluate import logistic, probe
from pipeline.evaluate.logistic import Regression

pytestmark = pytest.mark.usefixtures("one_thread")


def drawn(rows, width, classes, *, spread=1.0, scales=None):
    chance = np.random.default_rng(0)
    centres = spread * chance.standard_normal((classes, width))
    truth = np.arange(rows) % classes
    features = centres[truth] + chance.standard_normal((rows, width))
    return features * (1 if scales is None else scales), truth


def onehot(truth):
    return torch.from_numpy((truth[:, None] == np.unique(truth)).astype(np.float64))


def constant(features, truth):
    return np.concatenate([features, np.full((len(features), 1), 7.0)], axis=1), truth


CASES = {
    "two classes": drawn(200, 8, 2, spread=0.5),
    "many classes": drawn(400, 16, 20),
    "more features than rows": drawn(40, 90, 4, spread=0.3),
    "separable": drawn(120, 6, 3, spread=8.0),
    "badly scaled": drawn(200, 6, 3, scales=np.array([1e-2, 1, 1, 3, 30, 100])),
    "far from the origin": (drawn(200, 6, 3)[0] + 50.0, drawn(200, 6, 3)[1]),
    "a constant feature": constant(*drawn(150, 5, 3)),
    "shares that differ": (drawn(300, 5, 3)[0], np.minimum(drawn(300, 5, 30)[1], 2)),
}


@pytest.mark.parametrize("strength", [1e-4, 1.0, 100.0])
@pytest.mark.parametrize("name", list(CASES))
def test_the_weights_are_those_of_scikit_learn(name, strength):
    features, truth = CASES[name]
    is_binary = len(np.unique(truth)) == 2
    targets = onehot(truth)[:, 1:] if is_binary else onehot(truth)
    ours = Regression(torch.from_numpy(features), targets, "sigmoid" if is_binary else "softmax")
    found = ours.fit(strength, tolerance=1e-13)
    solver = "newton-cholesky" if features.shape[1] < 50 else "lbfgs"
    theirs = LogisticRegression(C=strength, solver=solver, tol=1e-10, max_iter=50_000)
    theirs.fit(features, truth)
    weights, bias = theirs.coef_.T, theirs.intercept_
    assert found.has_converged
    error = np.linalg.norm(found.weight_DK.numpy() - weights) / np.linalg.norm(weights)
    assert error < 1e-3
    assert np.allclose(
        found.bias_K - found.bias_K.mean() * (not is_binary),
        bias - bias.mean() * (not is_binary),
        rtol=1e-3,
        atol=1e-3,
    )
    peer = logistic.Fitted(torch.from_numpy(weights), torch.from_numpy(bias), True, 0)
    best, reached = ours.objective(peer, strength), ours.objective(found, strength)
    assert reached <= best * (1 + 1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_search_that_begins_with_other_weights_ends_in_the_same(dtype):
    features, truth = CASES["many classes"]
    ours = Regression(torch.from_numpy(features).to(dtype), onehot(truth), "softmax")
    near = ours.fit(0.5)
    cold, warm = ours.fit(1.0), ours.fit(1.0, near)
    assert warm.iterations < cold.iterations
    assert torch.allclose(
        cold.weight_DK, warm.weight_DK, atol=2e-2 if dtype.itemsize == 4 else 1e-4
    )


def test_labels_of_many_are_fitted_each_by_itself():
    features, truth = CASES["many classes"]
    targets = np.stack([truth % 2 == 0, truth % 5 == 0, truth < 4], axis=1)
    whole = Regression(torch.from_numpy(features), torch.from_numpy(targets), "sigmoid")
    found = whole.fit(1.0, tolerance=1e-13)
    for label, targets_N in enumerate(targets.T):
        theirs = LogisticRegression(C=1.0, solver="newton-cholesky", tol=1e-10)
        theirs.fit(features, targets_N)
        assert np.allclose(found.weight_DK[:, label], theirs.coef_[0], rtol=1e-3, atol=1e-4)


def test_the_search_halves_its_steps_around_the_best_and_never_tries_one_twice():
    tried = []

    def score(strength):
        tried.append(strength)
        return -abs(np.log10(strength) - 1.3)

    best, _ = probe.search(score, 4)
    assert np.log10(best) == pytest.approx(1.25)
    assert np.log10(tried[:7]) == pytest.approx([-6, -4, -2, 0, 2, 4, 6])
    assert len(tried) == len(set(tried)) == 7 + 2 * 4
    assert np.allclose(np.log10(tried) * 8 % 1, 0, atol=1e-9)


def test_of_strengths_that_are_equally_good_the_strongest_penalty_is_taken():
    assert probe.search(lambda _: 0.5, 4)[0] == pytest.approx(1e-6)
    assert probe.search(np.sign, 0)[0] == pytest.approx(1e-6)
    assert probe.search(lambda strength: strength, 3)[0] == pytest.approx(1e6)


def clusters(count, seed):
    chance = np.random.default_rng(seed)
    labels = ["left", "right"] * (count // 2)
    centres = np.array([[-1.0, 0.0] if label == "left" else [1.0, 0.0] for label in labels])
    return (centres + 0.2 * chance.standard_normal(centres.shape)).astype(np.float32), labels


def test_a_probe_tells_apart_what_a_line_can_divide():
    train, labels = clusters(40, seed=0)
    test, truth = clusters(20, seed=1)
    found = probe.fit(train, labels, test, halvings=4, seed=0)
    assert found.predicted == truth
    assert found.held_out_score == 1.0
    assert found.has_converged


def test_a_probe_is_the_same_when_fitted_again():
    train, labels = clusters(40, seed=0)
    test, _ = clusters(20, seed=1)
    fits = [probe.fit(train, labels, test, halvings=2, seed=0) for _ in range(2)]
    assert fits[0] == fits[1]


def test_a_fit_that_uses_up_its_iterations_says_so(monkeypatch):
    monkeypatch.setattr(logistic, "MAX_ITERATIONS", 1)
    train, labels = clusters(40, seed=0)
    assert not probe.fit(train, labels, train, halvings=1, seed=0).has_converged


@pytest.mark.parametrize("labels", [["a"] * 20, ["a", "b"]])
def test_too_few_images_are_not_fitted_on(labels):
    train = np.zeros((len(labels), 2), np.float32)
    assert "too few to fit on" in probe.fit(train, labels, train, halvings=3, seed=0)


def test_the_validation_split_chooses_and_is_then_fitted_on_too():
    features, truth = drawn(300, 6, 4, spread=1.5)
    names = [f"class {number}" for number in truth]
    # No training image is of the last class: it is known from the validation split alone.
    is_train = (truth < 3) & (np.arange(300) < 200)
    train = [name for name, chosen in zip(names, is_train, strict=True) if chosen]
    rest = [name for name, chosen in zip(names, is_train, strict=True) if not chosen]
    seen = []

    def measure(logits, numbers):
        seen.append((logits.shape, set(numbers)))
        assert np.isneginf(logits[:, 3]).all()
        return probe.accuracy(logits, numbers)

    found = probe.fit(
        features[is_train],
        train,
        features,
        halvings=1,
        seed=0,
        validation=(features[~is_train], rest),
        measure=measure,
    )
    assert seen[0] == ((len(rest), 4), {0, 1, 2, 3})
    right = np.mean([a == b for a, b in zip(found.predicted, names, strict=True)])
    assert right > 0.8
    assert "class 3" in found.predicted


def test_the_metric_chooses_the_strength():
    train, labels = clusters(40, seed=0)

    def most_even(logits, _):
        return -float(np.abs(logits).max())

    found = probe.fit(train, labels, train, halvings=2, seed=0, measure=most_even)
    assert found.strength == pytest.approx(1e-6)


def test_many_labels_share_one_strength_and_have_a_logit_each():
    features, truth = drawn(300, 8, 6, spread=2.0)
    targets = np.stack([truth % 2 == 0, truth >= 4], axis=1)

    def share_right(logits, wanted):
        return float(((logits > 0) == wanted).mean())

    found = probe.fit_multilabel(
        features[:200], targets[:200], features[200:], 2, 0, measure=share_right
    )
    assert found.logits_NK.shape == (100, 2)
    assert share_right(found.logits_NK, targets[200:]) > 0.8
    assert "too few" in probe.fit_multilabel(
        features[:3], targets[:3], features, 2, 0, measure=share_right
    )


def test_predictions_are_those_of_scikit_learn_but_for_near_ties():
    features, truth = drawn(500, 24, 12, spread=0.6)
    labels = [f"class {number:02}" for number in truth]
    train, test = features[:400].astype(np.float32), features[400:].astype(np.float32)
    found = probe.fit_scores(train, labels[:400], test, halvings=4, seed=0)
    theirs = LogisticRegression(C=found.strength, tol=1e-9, max_iter=50_000)
    logits = theirs.fit(train.astype(np.float64), labels[:400]).decision_function(test)
    best = np.sort(logits, axis=1)
    is_clear = best[:, -1] - best[:, -2] > 1e-2
    assert is_clear.mean() > 0.9
    assert (found.logits_NK.argmax(1) == logits.argmax(1))[is_clear].all()


def test_a_weak_penalty_on_what_a_plane_divides_is_fitted_as_far_as_numbers_reach():
    features, truth = drawn(400, 64, 10, spread=0.3)
    targets = onehot(truth)
    ours = Regression(torch.from_numpy(features.astype(np.float32)), targets, "softmax")
    near = ours.fit(1e2, tolerance=1e-5)
    for strength in (1e4, 1e6):
        near = ours.fit(strength, near, tolerance=1e-5)
        assert near.has_converged
