"""benchmarks.walk: the rates that it writes are those that `wit plan` reads."""

from pathlib import Path

import pytest

from benchmarks.walk import Cost, _rate, _written
from jobs import plan_rates


def test_what_is_spent_once_falls_out_of_a_rate() -> None:
    small, large = Cost(100, 90, 12.0, 900), Cost(300, 270, 14.0, 2700)
    assert _rate(small, large) == pytest.approx(100)
    # Where noise is greater than the difference, all rows count.
    assert _rate(small, large._replace(cpu_seconds=11.0)) == pytest.approx(300 / 11)


def test_the_file_is_one_that_the_plan_reads(tmp_path: Path) -> None:
    small, large = Cost(100, 90, 12.0, 900), Cost(300, 270, 14.0, 2700)
    costs = {verb: [small, large] for verb in ("match", "dedup", "evaluate")}
    path = tmp_path / "rates.toml"
    path.write_text(_written(costs, dict.fromkeys(costs, 100.0), (1, 100, 300)))
    found = plan_rates.read([path])
    assert found.of("match", "rows_per_core_second") == 100
    assert found.of("match", "bytes_out_per_row") == 10
    # A walk this small says nothing of shuffles.
    for rate in ("shuffle_bytes_per_row", "memory_gb_per_task"):
        assert found.of("dedup", rate) == plan_rates.reference().of("dedup", rate)
    assert found.of("draw", "rows_per_core_second") == plan_rates.reference().of(
        "draw", "rows_per_core_second"
    )
    origin = found.stages["match"]["rows_per_core_second"].origin
    assert "demo of 100 and 300 links" in origin
    assert "cores" in origin
