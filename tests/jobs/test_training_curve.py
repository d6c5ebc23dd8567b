"""The training curve in the report: few points, every number that was logged, and no other."""

import json
import math
import re

import numpy as np
import pytest

from jobs.report import write_report
from jobs.run import Run
from jobs.training_curve import training_curve
from pipeline.settings import Settings, TrainSettings


def line(step, **changes):
    told = {"step": step, "loss": 10.0 / step, "lr": 1e-3, "logit_scale": 14.0, "grad_norm": 1.0}
    return told | {"pairs_per_second": 800.0, "data_share": 0.1, "mfu": None} | changes


def write(folder, lines):
    folder.mkdir(parents=True, exist_ok=True)
    raw = [told if isinstance(told, bytes) else json.dumps(told).encode() for told in lines]
    (folder / "metrics.jsonl").write_bytes(b"\n".join(raw))
    return folder


def test_without_metrics_there_is_no_curve(tmp_path):
    assert training_curve(tmp_path / "nowhere", 32) is None
    for lines in ([], [b'{"step": 3, "lo'], [line(3, loss=None)], [line(3, loss=math.nan)]):
        assert training_curve(write(tmp_path / "checkpoints", lines), 32) is None


def test_the_curve_says_how_far_and_what_chance_would_be(tmp_path):
    told = training_curve(write(tmp_path, [line(step) for step in (2, 4, 6)]), 32_768)
    assert (told["step"], told["lines"], told["points"]) == (6, 3, 3)
    assert told["loss"] == pytest.approx(10 / 6)
    assert told["chance"] == pytest.approx(math.log(32_768))
    assert told["means"] == {"pairs_per_second": 800.0, "data_share": pytest.approx(0.1)}
    svg = told["picture"]
    assert svg.startswith('<svg role="img"')
    assert svg.count("<title>") == 1
    assert "<title>Training: loss 1.667 at step 6; chance is 10.397</title>" in svg
    for name in (
        "loss",
        "learning rate",
        "logit scale",
        "gradient norm",
        "pairs/s",
        "chance 10.40",
    ):
        assert f">{name}<" in svg
    assert "MFU" not in svg


def test_half_and_hostile_lines_are_passed_over(tmp_path):
    odd = [
        b"\xff\xfe{",
        b"[" * 100_000,
        b'{"step": -4, "loss": 1.0}',
        line(4, loss="<script>", lr=[1], grad_norm=True, logit_scale=10**400),
        b'{"step": 6, "loss": 1e999}',
        b'{"step": 9, "loss": 0.',
    ]
    told = training_curve(write(tmp_path, [line(2), *odd]), 32)
    assert (told["step"], told["loss"]) == (6, 5.0)
    assert "script" not in told["picture"]


def test_a_long_training_is_thinned_to_means_and_to_the_largest_gradients(tmp_path):
    lines = [line(step, loss=1.0, grad_norm=1.0) for step in range(1, 20_001)]
    lines[7_654]["grad_norm"] = 99.0
    lines[7_655]["loss"] = 21.0
    told = training_curve(write(tmp_path, lines), 32)
    assert (told["lines"], told["points"]) == (20_000, 1_000)
    assert len(told["picture"]) < 400_000
    thin = told["thinned"]
    assert np.nanmax(thin["grad_norm"]) == 99.0
    assert sorted(set(thin["loss"])) == [1.0, 2.0]
    assert (thin["step"][0], thin["step"][-1]) == (20, 20_000)


def test_steps_that_were_repeated_are_shown_once_as_they_came_last(tmp_path):
    lines = [line(2), line(4), line(6), line(4, loss=0.25), line(6, loss=0.125)]
    told = training_curve(write(tmp_path, lines), 32)
    assert list(told["thinned"]["loss"]) == [5.0, 0.25, 0.125]


def test_the_report_shows_the_training_only_where_there_is_one(tmp_path):
    run = Run(tmp_path, Settings(train=TrainSettings(model="tiny", batch_size=64)))
    assert "<h2>Training" not in write_report(run).read_text()
    write(run.path("checkpoints"), [line(step, mfu=0.375) for step in (2, 4)])
    page = write_report(run).read_text()
    text = re.sub(r"\s+", " ", page)
    assert "tiny, 4 steps so far; last loss 2.500. A model that knows nothing has 4.159" in text
    assert "800 pairs/s, 37.5% MFU, 10.0% of the time waiting for data." in text
    assert page.count('<svg role="img"') == 1
