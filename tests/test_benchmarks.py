"""benchmarks.form, and the web and the meter of benchmarks.download"""

import gzip
import importlib
import io
import json
import sys
import zlib
from pathlib import Path

import pytest
from PIL import Image

from benchmarks import download, form, web


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


_BENCHMARKS = Path(form.__file__).parent.glob("*.py")


@pytest.mark.parametrize("name", sorted(path.stem for path in _BENCHMARKS))
def test_a_benchmark_finds_all_that_it_measures(name: str) -> None:
    importlib.import_module(f"benchmarks.{name}")


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


def test_the_bombs_of_the_web_are_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    assert zlib.decompress(web.deflated_zeros((1 << 20) + 7), -15) == bytes((1 << 20) + 7)
    with Image.open(io.BytesIO(web.bomb_png(1500))) as image:
        assert image.size == (1500, 1500)
        assert image.getextrema() == ((0, 0),) * 3
    assert gzip.decompress(web.bomb_gzip(3)) == bytes(3 << 20)


def test_the_meter_counts_processes_whose_end_nobody_waits_for(tmp_path: Path) -> None:
    busy = "import time\nwhile time.process_time() < 1: pass"
    parent = (
        "import signal, subprocess, sys\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        f"subprocess.Popen([sys.executable, '-c', {busy!r}]).wait()"
    )
    cost = download.metered([sys.executable, "-c", parent], tmp_path / "log")
    assert cost.cpu > 0.5
