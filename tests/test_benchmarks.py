"""benchmarks.form"""

import json
from pathlib import Path

import pytest

from benchmarks import form


def test_a_result_holds_every_figure_beside_its_peer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(form, "RESULTS", tmp_path)
    figures = [
        form.Figure("met", 30.0, "rows/s", peer=10.0, peer_name="peer 1.0", goal=2.0),
        form.Figure("missed", 10.0, "rows/s", peer=10.0, peer_name="peer 1.0", goal=2.0),
        form.Figure("alone", 5.0, "rows/s"),
    ]
    form.publish("test", figures)
    told = json.loads((tmp_path / "test.json").read_text())
    assert [(line["ratio"], line["met"]) for line in told] == [
        (3.0, True),
        (1.0, False),
        (None, None),
    ]
    assert set(told[0]) == {
        *("figure", "ours", "peer", "peer_name", "unit", "ratio", "goal", "at_most", "met")
    }


def test_contenders_take_turns_and_the_median_is_told() -> None:
    turns: list[str] = []
    seconds = iter([1.0, 10.0, 3.0, 30.0, 2.0, 20.0])

    def measure(work: object) -> float:
        work()  # type: ignore[operator]
        return next(seconds)

    told = form.alternate(
        {"ours": lambda: turns.append("ours"), "peer": lambda: turns.append("peer")},
        rounds=3,
        measure=measure,
    )
    assert turns == ["ours", "peer"] * 3
    assert told == {"ours": 2.0, "peer": 20.0}


def test_work_that_computes_costs_cpu_and_work_that_waits_costs_time() -> None:
    import time

    assert form.cpu_seconds(lambda: sum(range(3_000_000))) > 0
    assert form.wall_seconds(lambda: time.sleep(0.05)) >= 0.05
