"""Candidates: ten million of them from ingest to balance, each stage with all of its processes.

There is no peer. Every stage is a command of its own, as on a laptop. What is told is the most
memory that its driver, the JVM and the Python workers had at one time, each page that they share
counted once, and the CPU seconds of all of them.
"""

import contextlib
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks import captions
from benchmarks.form import Figure, publish
from jobs import walk
from jobs.ledger import Ledger
from jobs.run import Run
from pipeline.schemas import TABLES

_MILLIONS, _MILLION = 10, 1_000_000
_GOAL_GB = 4.0
_SECONDS = 0.5
"""Between two looks at the processes."""
_STAGES = ("derive", "ingest", "match", "draw", "balance")


def main(data: Path) -> None:
    """Build with the captions and excerpts in `data` and publish."""
    if not (data / "captions").is_dir():
        print(f"{data} holds no captions: bench-candidates is skipped")
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _candidates(folder / "tables", captions.captions(data, _MILLION))
        config, root = folder / "candidates.toml", folder / "run"
        config.write_text(_toml(data.resolve(), folder / "tables"))
        costs = {}
        for verb in ("derive", "ingest", "match", "draw"):
            command = ["jobs", verb, "--config", str(config), "--run", str(root)]
            costs[verb] = cost([sys.executable, "-m", *command])
        run = Run.open(root, None, [])
        arrive(run)
        costs["balance"] = cost([sys.executable, "-m", "benchmarks.candidates", str(root)])
        rows = {
            verb: run.rows(table)
            for verb, table in (("ingest", "candidates"), ("match", "matched"), ("draw", "drawn"))
        }
        kept = run.rows("balanced")
    publish("candidates", [*_figures(costs, rows), Figure("balance: pairs kept", kept, "pairs")])


def _figures(costs: dict[str, "Cost"], rows: dict[str, int]) -> list[Figure]:
    """All but derive's, whose cost is that of its dumps; a stage reads what the last one wrote."""
    came_in = dict(zip(costs, [0, _MILLIONS * _MILLION, *rows.values()], strict=True))
    figures = []
    for verb, cost in list(costs.items())[1:]:
        rate = came_in[verb] / cost.seconds
        figures += [
            Figure(f"{verb}: peak memory", cost.peak / 1e9, "GB", goal=_GOAL_GB, at_most=True),
            Figure(f"{verb}: rows that come in", rate, "rows/CPU-s"),
        ]
    return figures


def _balance(root: Path) -> None:
    """The stage alone: the tables that it reads are ours."""
    walk.stage_of("balance").make(Run.open(root, None, []))


def _candidates(folder: Path, texts: pa.StringArray) -> None:
    """Ten tables of a million captions, each at other addresses."""
    folder.mkdir()
    for number in range(_MILLIONS):
        order = np.random.default_rng(number).permutation(len(texts))
        rng = random.Random(number)
        urls = [
            f"https://site-{rng.getrandbits(16)}.example/{rng.getrandbits(64):x}.jpg" for _ in order
        ]
        table = pa.table({"url": urls, "caption": texts.take(pa.array(order))})
        pq.write_table(table, folder / f"{number}.parquet", compression="zstd")


def _toml(data: Path, tables: Path) -> str:
    dumps = sorted(str(file) for file in (data / "wiki").glob("enwiki-2*-pages-articles.xml.bz2"))
    wordnet = f"wordnet = {json.dumps(str(captions.WORDNET))}" if captions.WORDNET.is_dir() else ""
    return f"""\
[spark]
driver_memory = "2g"
partitions = 64

[derive]
dumps = {json.dumps(dumps)}
min_word_count = 1
min_bigram_count = 2
{wordnet}

[ingest]
tables = [{{path = {json.dumps(str(tables))}}}]

[balance]
max_pairs_per_query = 20_000
"""


_HASHES: dict[str, Callable[[bytes], Any]] = {
    "phash": lambda digest: int.from_bytes(digest[:8], signed=True),
    "pdq": lambda digest: digest,
    "pixels_sha256": lambda digest: digest[::-1].hex(),
}


def arrive(run: Run, *, hashed: bool = False) -> None:
    """The tables of a download in which every link was alive and no image repeats; with hashes as
    long as those of images where `hashed`."""
    files = run.files("drawn")
    for verb, table in (("download", "images"), ("dedup", "deduped")):
        schema = TABLES[table].schema
        with run.stage(verb, {}, {}):
            folder = run.begin(table)
            rows = 0
            for file in files:
                drawn = pq.ParquetFile(file).read()
                rows += drawn.num_rows
                columns = [_column(drawn, field, hashed=hashed) for field in schema]
                pq.write_table(pa.table(columns, schema=schema), folder / file.name)
            run.finish(table, Ledger(rows, rows))
    with run.stage("download", {}, {}):
        reached = run.read_arrow("draws")
        run.write_arrow("reached", reached, Ledger(len(reached), len(reached)))


def _column(drawn: pa.Table, field: pa.Field, *, hashed: bool) -> pa.ChunkedArray | pa.Array:
    """The column as it is drawn, or a hash of the pair's name for one that the download adds."""
    if field.name in drawn.column_names:
        return drawn[field.name]
    if field.name == "status":
        return pa.array(["success"] * drawn.num_rows)
    if field.name == "sha256":
        return pc.binary_join_element_wise(drawn["pair_id"], drawn["pair_id"], "")
    if hashed and field.name in _HASHES:
        made = [hashlib.sha256(name.encode()) for name in drawn["pair_id"].to_pylist()]
        return pa.array([_HASHES[field.name](one.digest()) for one in made], field.type)
    if pa.types.is_integer(field.type):
        return pa.array(np.full(drawn.num_rows, 256), field.type)
    return pa.nulls(drawn.num_rows, field.type)


class Cost(NamedTuple):
    peak: int
    """Bytes of all processes together."""
    seconds: float
    """Of their CPUs."""


class Look(NamedTuple):
    """What was seen of a command and all that it started at one time."""

    when: float
    memory: int
    """Bytes of all processes together."""
    written: dict[int, int]
    """Bytes that each process has had written to disks since it began."""


def cost(command: list[str], looks: list[Look] | None = None) -> Cost:
    """What a command and all that it starts take; `looks` gets every look at them."""
    process = subprocess.Popen(command)
    peak, seconds = 0, dict[int, float]()
    while process.poll() is None:
        when, together, written = time.monotonic(), 0, dict[int, int]()
        for one in _tree(process.pid):
            with contextlib.suppress(psutil.Error):
                together += one.memory_full_info().pss
                seconds[one.pid] = sum(one.cpu_times()[:2])
                written[one.pid] = one.io_counters().write_bytes
        peak = max(peak, together)
        if looks is not None:
            looks.append(Look(when, together, written))
        time.sleep(_SECONDS)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return Cost(peak, sum(seconds.values()))


def _tree(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return []


if __name__ == "__main__":
    given = Path(sys.argv[1])
    _balance(given) if (given / "run.toml").is_file() else main(given)
