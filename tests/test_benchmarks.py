"""benchmarks.form, and the web and the meter of benchmarks.download"""

import gzip
import importlib
import io
import json
import sys
import zlib
from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks import download, form, gpu, web
from benchmarks.gpu_contenders import fit
from benchmarks.training import drawn, lengths


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


def test_drawn_texts_are_as_long_as_captions_of_the_web() -> None:
    lengths_B = lengths(4096, 0)
    assert 14 < lengths_B.mean() < 17
    assert lengths_B.min() == 3
    assert 70 < lengths_B.max() <= 77
    batch = drawn("tiny", lengths(64, 0, 32), vocabulary=514)
    ends = (batch.tokens_BL == 513).long().argmax(dim=1)
    assert (ends + 1).tolist() == batch.lengths_B.tolist()
    assert (batch.tokens_BL.argmax(dim=1) == ends).all()


def test_a_gpu_s_benchmark_says_on_a_machine_without_one_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as ended:
        gpu.plan_of([])
    assert ended.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_gpu_s_benchmark_goes_through_on_a_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(form, "RESULTS", tmp_path)
    rows = gpu.main(*gpu.plan_of(["--dry", "--peak", "0.5"]))
    ours = [row for row in rows if row.who == "ours"]
    assert [(row.model, row.pairs, row.how) for row in ours] == [
        ("tiny", 8, "all at once"),
        ("tiny", 16, "all at once"),
    ]
    assert all(0 < (row.mfu or 0) < 1 for row in rows)
    told = [line["figure"] for line in json.loads((tmp_path / "gpu.json").read_text())]
    assert told[-1] == "tiny, from shards"


def test_what_does_not_fit_into_memory_is_tried_in_a_way_that_takes_less() -> None:
    class Greedy:
        def __init__(self, way: dict[str, int]) -> None:
            self.pairs = way["pairs"]

        def step(self) -> None:
            if self.pairs > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")

    ways = [{"pairs": 8}, {"pairs": 4}, {"pairs": 2}, {"pairs": 1}]
    cpu = torch.device("cpu")
    fitted = fit(ways, Greedy, cpu, warm_up=1)
    assert fitted is not None
    assert fitted.way == {"pairs": 2}
    assert fit(ways[:2], Greedy, cpu, warm_up=1) is None
