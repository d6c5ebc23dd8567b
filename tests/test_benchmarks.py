"""benchmarks.form, and what benchmarks make and measure with"""

import gzip
import importlib
import io
import json
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import download, form, gpu, scale_captions, scale_hashes, scale_told, web
from benchmarks.gpu_contenders import fit
from benchmarks.training import drawn, lengths
from jobs import plan_rates
from pipeline.hamming import HammingIndex


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


def test_captions_put_together_have_the_lengths_and_the_copies_of_real_ones() -> None:
    rng = np.random.default_rng(0)
    texts = [
        " ".join(f"w{w}" for w in rng.integers(0, 99, 2 + number % 9)) for number in range(900)
    ]
    pool = scale_captions.pool([*texts, *["one picture of the museum"] * 100])
    pairs = scale_captions.keys(0, 60_000)
    distinct = np.unique(pairs)
    assert 0.83 < len(distinct) / len(pairs) < 0.87
    made = scale_captions.captions(pool, distinct).to_pylist()
    told = [sum(len(text.split()) == words for text in made) / len(made) for words in (2, 6, 10)]
    assert told == pytest.approx([0.1] * 3, abs=0.01)
    assert made.count("one picture of the museum") / len(made) == pytest.approx(0.1, abs=0.01)
    # Rows follow from their numbers, however they are cut.
    parts = [scale_captions.keys(first, 20_000) for first in (0, 20_000, 40_000)]
    assert np.array_equal(np.concatenate(parts), pairs)


def test_made_hashes_hold_copies_that_the_cascade_finds() -> None:
    hashes, evals = scale_hashes.corpus(0, 20_000, 20_000), scale_hashes.known()
    row, known, _ = HammingIndex(evals.phash, 8).search(hashes.phash)
    # One row in 500 is a copy.
    assert 20 < len(row) < 60
    apart = np.bitwise_count(hashes.pdq[row] ^ evals.pdq[known]).sum(axis=1)
    # By chance one or two are near by pHash alone.
    assert (apart > 31).sum() <= 3
    _, times = np.unique(hashes.pixels, return_counts=True)
    assert 0.05 < (times[times > 1].sum() / len(hashes.pixels)) < 0.15


def test_a_curve_tells_a_constant_from_what_grows(tmp_path: Path) -> None:
    def point(rows: int, seconds: float) -> scale_told.Point:
        return scale_told.Point("match", rows, 0, rows, rows, seconds, seconds, 10**9, rows, rows)

    sizes = (10**5, 3 * 10**5, 10**6)
    started = [point(rows, 5 + rows / 1e5) for rows in sizes]
    (curve,) = scale_told.curves(started)
    assert curve.flat("cpu") == "a further row"
    assert curve.further("cpu") == pytest.approx([10, 10])
    (squares,) = scale_told.curves([point(rows, rows**2 / 1e10) for rows in sizes])
    assert squares.flat("cpu") == "neither"
    path = tmp_path / "rates.toml"
    path.write_text(scale_told.rates(started))
    found = plan_rates.read([path])
    assert found.of("match", "rows_per_core_second") == pytest.approx(10**6 / 15, rel=1e-5)
    told = {figure.figure: figure for figure in scale_told.figures(started, 0.1)}
    assert told["match: CPU of a row, most rows to fewest, 0.1 of the sizes"].met
