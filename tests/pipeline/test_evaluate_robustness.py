"""Robustness: the line of other models, and how far above it one lies."""

import numpy as np
import pytest
from scipy.special import expit, logit

from pipeline.errors import BadInput
from pipeline.evaluate import robustness
from pipeline.evaluate.robustness import Baselines, Counted, effective, fitted


def others(slope=0.9, intercept=-0.5, count=20, noise=0.0):
    x = np.linspace(0.3, 0.85, count)
    chance = np.random.default_rng(0)
    y = expit(slope * logit(x) + intercept + noise * chance.normal(size=count))
    return Baselines([f"m{n}" for n in range(count)], x, y)


def test_the_line_is_fitted_over_logits():
    line = fitted(others())
    assert (line.slope, line.intercept) == pytest.approx((0.9, -0.5))
    assert line.at(0.7) == pytest.approx(expit(0.9 * logit(0.7) - 0.5))


def test_effective_robustness_is_what_a_model_has_above_the_line():
    told = effective([Counted(7000, 10000)], [Counted(6500, 10000)], others(noise=0.05))
    wanted = 0.65 - fitted(others(noise=0.05)).at(0.7)
    assert told["effective_robustness"] == pytest.approx(wanted)
    assert told["low"] < wanted < told["high"]
    assert told["high"] - told["low"] < 0.05
    assert told["gap"] == pytest.approx(0.05)


def test_fewer_images_leave_a_wider_interval():
    def width(times):
        told = effective([Counted(70 * times, 100 * times)], [Counted(5 * times, 10 * times)], None)
        return told["gap_high"] - told["gap_low"]

    assert width(1) > 5 * width(100)


def test_without_other_models_there_is_a_gap_and_no_line():
    told = effective([Counted(8, 10)], [Counted(5, 10)], None)
    assert told["gap"] == pytest.approx(0.3)
    assert (told["effective_robustness"], told["line"]) == (None, None)
    assert "without baselines" in told["note"]


def test_of_several_shifted_sets_the_means_are_compared():
    told = effective(
        [Counted(8, 10), Counted(60, 100)], [Counted(5, 10), Counted(40, 100)], others()
    )
    assert told["reference_accuracy"] == pytest.approx(0.7)
    assert told["shifted_accuracy"] == pytest.approx(0.45)


def test_too_few_models_fix_no_line():
    assert fitted(others(count=2)) is None
    assert "fix no line" in effective([Counted(1, 2)], [Counted(1, 2)], others(count=2))["note"]


def test_baselines_are_read_by_shifted_set(tmp_path):
    path = tmp_path / "others.csv"
    path.write_text("model,reference,shifted,set\na,0.5,0.4,v2\nb,0.6,0.5,sketch\nc,.7,.6,\n")
    assert robustness.read(path, "v2").models == ["a"]
    assert robustness.read(path, None).models == ["c"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("model,reference\na,0.5\n", "lacks the column shifted"),
        ("model,reference,shifted\na,0.5,0.4\nb,55.1,40\n", "line 3: reference is `55.1`"),
        ("model,reference,shifted\na,0.5,x\n", "line 2: shifted is `x`"),
        ("model,reference,shifted\na,0.5,1\n", "have no logit"),
    ],
)
def test_baselines_that_are_none_are_refused_by_line(tmp_path, text, why):
    path = tmp_path / "others.csv"
    path.write_text(text)
    with pytest.raises(BadInput, match=why):
        robustness.read(path, None)
