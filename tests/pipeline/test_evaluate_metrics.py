"""Metrics: each against its definition, written out or computed by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from pipeline.evaluate.metrics import Answers, measure, names, resamples, value
from pipeline.evaluate.overlap import by_overlap, corrected


def answers(truth, predicted, classes=None, **more):
    truth, predicted = np.array(truth, np.int64), np.array(predicted, np.int64)
    return Answers(classes or int(max(*truth, *predicted)) + 1, truth, predicted, **more)


def shares(right, total):
    """`right` of `total` are right."""
    return answers([0] * total, [0] * right + [1] * (total - right))


def two_classes(scores, truth):
    return answers(truth, truth, 2, positive_N=np.array(scores, np.float32))


def several(scores, targets):
    scores, targets = np.array(scores, np.float32), np.array(targets, np.int8)
    nothing = np.zeros(len(scores), np.int64)
    return Answers(scores.shape[1], nothing, nothing, scores_NK=scores, targets_NK=targets)


def test_an_accuracy_comes_with_its_wilson_interval():
    told = measure("accuracy", shares(8, 10))
    assert told.value == 0.8
    assert (told.low, told.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_no_images_have_no_accuracy():
    nothing = shares(3, 5).only(np.zeros(5, bool))
    assert measure("accuracy", nothing) == (None, None, None)


def test_the_mean_per_class_counts_every_class_alike_whatever_its_size():
    assert measure("mean_per_class", answers([0] * 9 + [1], [0] * 10)).value == 0.5


def test_the_mean_of_one_class_has_the_interval_of_its_accuracy():
    assert measure("mean_per_class", shares(8, 10)) == pytest.approx(
        measure("accuracy", shares(8, 10))
    )


def test_the_interval_of_a_mean_per_class_holds_the_truth_about_as_often_as_it_says():
    chance, held = np.random.default_rng(0), 0
    truth = np.repeat(np.arange(5), [5, 10, 20, 40, 80])
    ease = np.array([0.5, 0.9, 0.7, 0.99, 0.3])
    for _ in range(400):
        is_right = chance.random(len(truth)) < ease[truth]
        told = measure("mean_per_class", answers(truth, np.where(is_right, truth, 5), 6))
        held += told.low <= ease.mean() <= told.high
    assert 0.92 <= held / 400 <= 0.985


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=30))
def test_the_area_under_the_curve_is_scikit_learns(rows):
    scores, truth = zip(*rows, strict=True)
    told = measure("roc_auc", two_classes(scores, [int(t) for t in truth]))
    if len(set(truth)) < 2:
        assert told.value is None
    else:
        assert told.value == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)


def test_delongs_interval_is_that_of_its_definition():
    chance = np.random.default_rng(3)
    truth = np.repeat([0, 1], [40, 25])
    scores = chance.normal(size=65) + truth
    wins = (scores[truth == 1][:, None] > scores[truth == 0][None]).astype(float)
    spread = np.sqrt(wins.mean(1).var(ddof=1) / 25 + wins.mean(0).var(ddof=1) / 40)
    told = measure("roc_auc", two_classes(scores, truth))
    assert (told.low, told.high) == pytest.approx(
        (told.value - 1.96 * spread, min(1, told.value + 1.96 * spread)), abs=1e-4
    )


def devkit(scores, targets):
    """VOCevaldet's and VOCevalcls' 11-point average precision, line by line."""
    kept = targets >= 0
    scores, targets = scores[kept], targets[kept]
    order = np.argsort(-scores, kind="stable")
    tp, fp = np.cumsum(targets[order] == 1), np.cumsum(targets[order] == 0)
    recall, precision = tp / (targets == 1).sum(), tp / (tp + fp)
    found = [precision[recall >= t - 1e-12] for t in np.arange(11) / 10]
    return sum(p.max() if len(p) else 0.0 for p in found) / 11


def test_eleven_points_by_hand():
    # Ranked: right, wrong, right, wrong: precision 1 up to recall 0.5, and 2/3 beyond.
    told = measure("map_11_point", several([[0.9], [0.8], [0.7], [0.6]], [[1], [0], [1], [0]]))
    assert told.value == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)


def test_an_image_that_is_difficult_counts_neither_way():
    told = measure("map_11_point", several([[0.9], [0.8], [0.7]], [[-1], [1], [0]]))
    assert told.value == 1.0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(3, 40))
def test_the_mean_average_precision_is_the_devkits(seed, images):
    chance = np.random.default_rng(seed)
    scores = chance.integers(0, 6, (images, 3)).astype(np.float32)
    targets = chance.integers(-1, 2, (images, 3)).astype(np.int8)
    targets[0] = 1
    wanted = np.mean([devkit(scores[:, k], targets[:, k]) for k in range(3)])
    assert value("map_11_point", several(scores, targets))(np.ones(images)) == pytest.approx(wanted)


def test_a_weight_counts_as_so_many_images():
    chance = np.random.default_rng(1)
    times = chance.integers(0, 4, 30)
    truth, scores = chance.integers(0, 2, 30), chance.normal(size=30)
    labels = chance.integers(-1, 2, (30, 4))
    several_scores = chance.normal(size=(30, 4))
    made = {
        "roc_auc": lambda rows: two_classes(scores[rows], truth[rows]),
        "mean_per_class": lambda rows: answers(truth[rows], scores[rows] > 0, 2),
        "map_11_point": lambda rows: several(several_scores[rows], labels[rows]),
    }
    once, again = np.arange(30), np.repeat(np.arange(30), times)
    for name, make in made.items():
        weighted = value(name, make(once))(times.astype(float))
        assert weighted == pytest.approx(value(name, make(again))(np.ones(len(again))))


def test_the_mean_of_top_1_and_top_5_is_kinetics():
    in_top = np.array([True, True, True, False])
    told = answers([0, 1, 2, 3], [0, 9, 9, 9], 10, in_top_N=in_top)
    assert measure("top5", told).value == 0.75
    assert measure("mean_top1_top5", told).value == 0.5


def test_five_of_less_than_ten_classes_are_nothing_to_tell():
    assert "top5" not in names(answers([0], [0], 9, in_top_N=np.array([True])))
    assert "top5" in names(answers([0], [0], 10, in_top_N=np.array([True])))


def test_resamples_are_the_same_every_time_and_keep_the_sizes_of_groups():
    one, two = list(resamples(3, 5))[:4], list(resamples(3, 5))[:4]
    assert np.array_equal(one, two)
    assert all((weights[:3].sum(), weights[3:].sum()) == (3, 5) for weights in one)


# -- overlap -------------------------------------------------------------------------------


def test_overlapping_images_are_told_apart_from_clean_ones():
    overlaps = np.array([True] * 10 + [False] * 90)
    told = by_overlap(answers([0] * 100, [0] * 10 + [0, 1] * 45), overlaps, "accuracy")
    assert told["all"]["accuracy"] == 0.55
    assert told["clean"]["accuracy"] == 0.5
    assert told["overlap"]["accuracy"] == 1.0
    assert told["all_minus_clean"] == pytest.approx(0.05)
    assert told["all_minus_clean_low"] < 0.05 < told["all_minus_clean_high"]
    assert told["p_value"] == pytest.approx(0.5**10)


def test_a_metric_that_is_no_accuracy_has_a_difference_and_no_p_value():
    chance = np.random.default_rng(0)
    targets = np.tile([[1], [0]], (20, 1))
    scores = targets + chance.normal(size=(40, 1))
    overlaps = np.arange(40) < 10
    told = by_overlap(several(scores, targets), overlaps, "map_11_point")
    whole = value("map_11_point", several(scores, targets))(np.ones(40))
    clean = value("map_11_point", several(scores[10:], targets[10:]))(np.ones(30))
    assert told["all_minus_clean"] == pytest.approx(whole - clean)
    assert told["all_minus_clean_low"] <= told["all_minus_clean"] <= told["all_minus_clean_high"]
    assert told["p_value"] is None


@pytest.mark.parametrize(("share", "note"), [(False, "no image overlaps"), (True, "every image")])
def test_without_both_kinds_nothing_is_compared_and_it_is_said_why(share, note):
    told = by_overlap(shares(1, 3), np.full(3, share), "accuracy")
    assert (told["p_value"], told["all_minus_clean"]) == (None, None)
    assert note in told["note"]


def test_the_level_of_significance_is_shared_by_all_tests_that_were_made():
    told = {
        "a": {"zero_shot": {"p_value": 0.02}, "linear_probe": {"p_value": 0.01}},
        "b": {"zero_shot": {"p_value": None}, "linear_probe": {"skipped": "too few"}},
    }
    assert corrected(told, 0.03) == 2
    assert told["a"]["zero_shot"]["level"] == 0.015
    assert not told["a"]["zero_shot"]["is_significant"]
    assert told["a"]["linear_probe"]["is_significant"]
