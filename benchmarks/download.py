"""Download: ours in Spark beside stock img2dataset, over HTTP and HTTPS, from a web on loopback.

Every contender is a process of its own with all that it starts, and the web another, which is not
counted. A list of a few links tells what starting costs; what a longer list costs more is the
price of a further image. Through the JVM go rows alone, and its start differs by seconds from one
time to the next: a further image is what the Python processes take, and the JVM is in all that is
called "all in".
"""

import argparse
import contextlib
import hashlib
import importlib.metadata
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import downloaders, web
from benchmarks.form import Figure, high_water, publish
from pipeline.schemas import DRAWN
from pipeline.settings import BalanceSettings

_FEW = 4
_USUAL = downloaders.PROCESSES * BalanceSettings().pairs_per_raw_shard
_STAGE_IMAGES = 239
_POLL_SECONDS = 0.2
_PATIENCE_SECONDS = 400.0
_PEER = f"img2dataset {importlib.metadata.version('img2dataset')}"
_GOALS = {"https": 4.0, "http": 1.3}
_GOAL_MB = 600.0
_PHOTOS, _HEAVY_EVERY = 400, 20
_OURS, _ALONE, _STOCK = "in_spark", "in_one_process", "stock"


class Cost(NamedTuple):
    cpu: float
    """Seconds, of the process and of all that it started."""
    java: float
    """Of those the JVM's."""
    wall: float
    peak: int
    """Bytes of the largest of its Python processes."""
    images: int


def main(data: Path, images: int, rounds: int) -> None:
    """Measure with the photos and the record in `data` and publish."""
    if not (data / "photos").is_dir():
        print(f"{data} holds no photos: bench-download is skipped")
        return
    with tempfile.TemporaryDirectory() as scratch, web.serving(data, Path(scratch)) as served:
        os.environ["SSL_CERT_FILE"] = str(served.trust)  # for all of them
        bench = _Bench(Path(scratch), served, web.links(data)[:images])
        costs = bench.costs(rounds)
        stages = bench.stages(web.photos(data))
        peaks = bench.peaks()
    figures = [line for scheme in _GOALS for line in _rates(scheme, costs)]
    publish("download", [*figures, *_starts(costs), *_stage_figures(stages), *_memory(peaks)])


class _Bench:
    def __init__(self, folder: Path, served: web.Web, links: list[web.Link]) -> None:
        self._folder, self._web, self._links = folder, served, links
        self._runs = 0

    def costs(self, rounds: int) -> dict[tuple[str, str], Cost]:
        """The medians of each list and contender, run in turn."""
        lists = {scheme: self._list(scheme, self._links) for scheme in _GOALS}
        few = [link for link in self._links if link.is_photo][:_FEW]
        lists["few"] = self._list("https", few)
        for contender in (_STOCK, _OURS, _ALONE):  # the first of a kind reads cold files
            self._cost(contender, lists["few"])
        found = defaultdict(list)
        for _ in range(rounds):
            for name, source in lists.items():
                for contender in (_STOCK, _OURS, _ALONE):
                    cost = self._cost(contender, source)
                    told = f"{cost.cpu:.1f} CPU s, {cost.wall:.1f} s, {cost.images} images"
                    print(f"{name}, {contender}: {told}", file=sys.stderr)
                    if not cost.images:
                        raise SystemExit(f"{contender} brought no image")
                    found[name, contender].append(cost)
        return {key: _median(costs) for key, costs in found.items()}

    def stages(self, files: list[bytes]) -> dict[str, dict[str, float]]:
        """CPU seconds of each stage for each image; only links that lead to photos are asked."""
        photos = [link for link in self._links if link.is_photo][:_STAGE_IMAGES]
        lists = {scheme: self._list(scheme, photos, raw_shards=1) for scheme in _GOALS}
        return downloaders.stages(lists, files[: len(photos)])

    def peaks(self) -> dict[str, Cost]:
        """One worker of each over a list with everything that takes memory."""
        photos = [link for link in self._links if link.is_photo][:_PHOTOS]
        urls = [self._web.url("https", link) for link in photos]
        heavy = [self._web.at("https", f"/heavy-{n}.jpg") for n in range(_PHOTOS // _HEAVY_EVERY)]
        hostile = [self._web.at("https", path) for path in web.HOSTILE]
        # In the middle, where all threads are busy.
        urls[len(urls) // 2 : len(urls) // 2] = heavy + hostile
        rows = [(url, "a caption") for url in urls]
        source = self._write(rows, raw_shards=1)
        contenders = (_ALONE, "stock_in_one_process")
        return {contender: self._cost(contender, source) for contender in contenders}

    def _list(
        self, scheme: str, links: list[web.Link], raw_shards: int = downloaders.PROCESSES
    ) -> Path:
        rows = [(self._web.url(scheme, link), link.caption) for link in links]
        return self._write(rows, raw_shards)

    def _write(self, rows: list[tuple[str, str]], raw_shards: int) -> Path:
        """Rows of drawn, each raw shard of as many."""
        self._runs += 1
        path = self._folder / f"{self._runs}.parquet"
        per_shard = -(-len(rows) // raw_shards)
        columns: dict[str, list[Any]] = {
            "pair_id": [hashlib.sha256(url.encode()).hexdigest()[:32] for url, _ in rows],
            "url": [url for url, _ in rows],
            "caption": [caption for _, caption in rows],
            "raw_shard": [place // per_shard for place in range(len(rows))],
            "position": list(range(len(rows))),
            "round": [1] * len(rows),
        }
        for field in DRAWN:
            nothing: Any = [] if pa.types.is_list(field.type) else None
            columns.setdefault(field.name, [nothing] * len(rows))
        pq.write_table(pa.Table.from_pydict(columns, schema=DRAWN), path)
        return path

    def _cost(self, contender: str, source: Path) -> Cost:
        """What a contender takes for a list."""
        self._runs += 1
        out = self._folder / f"out-{self._runs}"
        command = [sys.executable, "-m", "benchmarks.downloaders", contender, str(source), str(out)]
        cost = metered(command, self._folder / f"{self._runs}.log")
        told = [json.loads(file.read_text()) for file in out.glob("*_stats.json")]
        downloaders.clear(out)
        return cost._replace(images=sum(stats["successes"] for stats in told))


def metered(command: list[str], log: Path) -> Cost:
    """Run it, within a limit of time.

    There are two counts of CPU time, and each may only miss some, so that the greater is told:
    the system's of ended processes does not know Spark's Python workers, whose parent ignores
    their end, nor the JVM, whose end nobody waits for; what is polled misses the last moments.
    """
    before, began = _ended_seconds(), time.monotonic()
    polled, java, peak = dict[int, float](), dict[int, float](), 0
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    try:
        while process.poll() is None and time.monotonic() - began < _PATIENCE_SECONDS:
            for one in _tree(process.pid):
                with contextlib.suppress(psutil.Error, OSError, IndexError):
                    polled[one.pid] = sum(one.cpu_times()[:2])
                    if one.name() == "java":
                        java[one.pid] = polled[one.pid]
                    else:
                        peak = max(peak, high_water(one.pid))
            time.sleep(_POLL_SECONDS)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    wall = time.monotonic() - began
    if process.returncode:
        print(f"{' '.join(command)}: {process.returncode}\n{log.read_text()[-2000:]}")
    spent = max(_ended_seconds() - before, sum(polled.values()))
    return Cost(spent, sum(java.values()), wall, peak, 0)


def _ended_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _tree(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return []


def _median(costs: list[Cost]) -> Cost:
    columns = [statistics.median(column) for column in zip(*costs, strict=True)]
    return Cost(*columns[:3], *map(int, columns[3:]))


# -- what is told --------------------------------------------------------------------------


def _rates(scheme: str, costs: dict[tuple[str, str], Cost]) -> list[Figure]:
    ours, alone, stock = (costs[scheme, name] for name in (_OURS, _ALONE, _STOCK))
    further = {name: _further(costs, scheme, name) for name in (_OURS, _ALONE, _STOCK)}
    name = scheme.upper()
    rate = "images/CPU-s"

    def beside(figure: str, one: float, other: float, unit: str, goal: Any = None) -> Figure:
        return Figure(f"{name}: {figure}", one, unit, other, _PEER, goal=goal)

    goal = _GOALS[scheme]
    # Two tasks of the usual size: what was measured, laid out along a longer list.
    one, other = (costs["few", run].cpu / _USUAL + further[run] for run in (_OURS, _STOCK))
    return [
        beside("further images", 1 / further[_OURS], 1 / further[_STOCK], rate, goal),
        beside("further images, without Spark", 1 / further[_ALONE], 1 / further[_STOCK], rate),
        beside("further image", further[_OURS] * 1e3, further[_STOCK] * 1e3, "CPU ms"),
        beside(f"{_USUAL:,} images, all in, reckoned", 1 / one, 1 / other, rate, goal),
        beside(
            f"{stock.images:,} images, all in",
            ours.images / ours.cpu,
            stock.images / stock.cpu,
            rate,
        ),
        beside("the same, without Spark", alone.images / alone.cpu, stock.images / stock.cpu, rate),
        beside(
            "the same on the clock", ours.images / ours.wall, stock.images / stock.wall, "images/s"
        ),
        beside("images that came", ours.images, stock.images, "images", goal=1.0),
    ]


def _further(costs: dict[tuple[str, str], Cost], scheme: str, contender: str) -> float:
    """CPU seconds of an image when the contender runs."""
    many, few = costs[scheme, contender], costs["few", contender]
    return (many.cpu - many.java - few.cpu + few.java) / (many.images - few.images)


def _starts(costs: dict[tuple[str, str], Cost]) -> list[Figure]:
    few = {name: costs["few", name].cpu for name in (_OURS, _ALONE, _STOCK)}
    return [
        Figure(f"to start, {_FEW} images", few[_OURS], "CPU s", few[_STOCK], _PEER),
        Figure("to start, without Spark", few[_ALONE], "CPU s"),
    ]


def _stage_figures(stages: dict[str, dict[str, float]]) -> list[Figure]:
    figures = []
    for stage, seconds in stages.items():
        ours, stock = seconds["ours"] * 1e3, seconds.get("stock")
        peer = (stock * 1e3, _PEER) if stock else (None, None)
        figures.append(Figure(f"{stage}, an image", ours, "CPU ms", *peer))
    return figures


def _memory(peaks: dict[str, Cost]) -> list[Figure]:
    ours, stock = (peaks[name].peak / 1e6 for name in (_ALONE, "stock_in_one_process"))
    told = "peak memory of a worker, hostile list"
    return [
        Figure(told, ours, "MB", goal=_GOAL_MB, at_most=True),
        Figure(f"{told}, {_PEER}", stock, "MB"),
        Figure("hostile list: images that came", *_came(peaks), peer_name=_PEER),
    ]


def _came(peaks: dict[str, Cost]) -> tuple[float, str, float]:
    return peaks[_ALONE].images, "images", peaks["stock_in_one_process"].images


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="benchmarks.download", description=__doc__)
    parser.add_argument("data", type=Path, help="a folder with photos/ and captions/")
    parser.add_argument("--images", type=int, default=1500, help="links of a list, at most 8,000")
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    main(given.data, given.images, given.rounds)
