"""pipeline.audit.shift"""

from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from pipeline.audit.shift import Shift, needed, over_all, power, shifts
from pipeline.settings import AuditSettings

SETTINGS = AuditSettings()


def _answers(
    clean: tuple[int, int], overlap: tuple[int, int]
) -> tuple[np.ndarray[tuple[int], np.dtype[np.bool_]], np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """Right answers of (right, images)."""
    right = [number < share[0] for share in (clean, overlap) for number in range(share[1])]
    return np.array(right, np.bool_), np.array([False] * clean[1] + [True] * overlap[1], np.bool_)


def _one(clean: tuple[int, int], overlap: tuple[int, int]) -> Shift:
    (shift,) = shifts({("m", "set"): _answers(clean, overlap)}, SETTINGS)
    return shift


def _tail(least: int, trials: int, null: Fraction) -> Fraction:
    """The chance of at least `least` successes, in exact numbers."""
    return sum(
        (comb(trials, k) * null**k * (1 - null) ** (trials - k) for k in range(least, trials + 1)),
        Fraction(0),
    )


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(0, 60), st.integers(1, 30), st.integers(0, 30))
def test_the_p_value_is_the_binomial_tail_with_clean_as_the_null(
    clean: int, right: int, overlap: int, found: int
) -> None:
    right, found = min(right, clean), min(found, overlap)
    shift = _one((right, clean), (found, overlap))
    exact = _tail(found, overlap, Fraction(right, clean))
    assert shift.p_value == pytest.approx(float(exact), rel=1e-9, abs=1e-300)
    peer = binomtest(found, overlap, right / clean, alternative="greater").pvalue
    assert shift.p_value == pytest.approx(peer)
    interval = binomtest(found, overlap).proportion_ci(0.995, method="exact")
    assert (shift.overlap.low, shift.overlap.high) == (interval.low, interval.high)
    assert shift.all_minus_clean == pytest.approx(
        (right + found) / (clean + overlap) - right / clean
    )
    assert shift.is_significant == (shift.p_value <= SETTINGS.significance)


@settings(deadline=None)
@given(st.integers(1, 80), st.integers(0, 20), st.floats(1e-6, 0.2))
def test_no_fewer_right_answers_than_needed_are_significant(
    trials: int, twentieths: int, level: float
) -> None:
    null = twentieths / 20
    least = needed(trials, null, level)
    assert 0 < least <= trials + 1
    assert binomtest(least - 1, trials, null, alternative="greater").pvalue > level
    if least <= trials:
        assert binomtest(least, trials, null, alternative="greater").pvalue <= level


def test_ten_images_cannot_be_tested_among_35_sets_where_half_of_the_clean_are_right() -> None:
    # 0.5 ** 10 is 0.00098 and below 0.05 / 35, 0.55 ** 10 is 0.0025 and above.
    assert needed(10, 0.5, 0.05 / 35) == 10
    assert needed(10, 0.55, 0.05 / 35) == 11
    sets = {("m", f"set{n}"): _answers((55, 100), (10, 10)) for n in range(35)}
    told = shifts(sets, SETTINGS)
    assert {shift.is_testable for shift in told} == {False}
    assert told[0].note == "not testable: 10 right of 10 would not be significant"
    assert told[0].p_value == pytest.approx(0.55**10)
    assert over_all(told, 0.001)["not_testable"] == 35
    assert _one((55, 100), (10, 10)).is_significant


def test_bonferroni_counts_the_sets_that_were_tested() -> None:
    answers = {
        ("m", "tested"): _answers((50, 100), (40, 50)),
        ("m", "also"): _answers((50, 100), (25, 50)),
        ("m", "none overlap"): _answers((50, 100), (0, 0)),
        ("m", "all overlap"): _answers((0, 0), (5, 10)),
    }
    told = {shift.evalset: shift for shift in shifts(answers, SETTINGS)}
    assert told["tested"].level == told["also"].level == 0.025
    assert told["tested"].is_significant
    assert not told["also"].is_significant
    assert told["none overlap"].p_value is None
    assert told["none overlap"].all_minus_clean == 0.0
    assert told["all overlap"].all_minus_clean is None
    assert "none to compare" in told["all overlap"].note
    assert over_all(list(told.values()), 0.001) == {
        "compared": 3,
        "shifted": 1,
        "tests": 2,
        "significant": 1,
        "not_testable": 0,
    }


def test_the_smallest_gain_is_found_with_the_chance_that_was_asked_for() -> None:
    shift = _one((600, 1000), (70, 100))
    assert shift.needed is not None
    assert shift.smallest_gain is not None
    assert power(100, shift.needed, 0.6 + shift.smallest_gain) == pytest.approx(0.8)
    draws = np.random.default_rng(1).binomial(100, 0.65, 200_000)
    assert shift.power == pytest.approx((draws >= shift.needed).mean(), abs=0.005)


def test_where_all_clean_images_are_right_nothing_can_be_found() -> None:
    shift = _one((50, 50), (20, 20))
    assert (shift.p_value, shift.is_testable) == (1.0, False)
    assert _one((0, 50), (1, 20)).is_significant
