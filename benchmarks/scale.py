"""Scale: whether a row costs as much among many as among few, and whether memory is bounded.

Three sizes each of the text stages (candidates put together from real captions), dedup (made
hashes) and shards (small JPEGs), every size in a process of its own, in turn. Told is what all
processes of a stage take: CPU, memory of which pages that they share count once, bytes that are
written to disks (shuffles too). Starting Spark is not counted, nor a first turn of all stages over
a small run. What a stage takes however few its rows are is; so a further row is told beside a row:
what one more costs between two sizes.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from benchmarks import captions, scale_captions, scale_hashes, scale_images, scale_told
from benchmarks.candidates import Look, cost
from benchmarks.scale_stage import TOLD, WARM
from benchmarks.scale_told import Point

_QUERIES = 500_000
_GIGABYTE = 1e9


class Suite(NamedTuple):
    """Stages that follow one another, and what lies ready for the first of them."""

    sizes: tuple[int, ...]
    verbs: tuple[str, ...]
    warm: int
    """Rows on which the stages are run before they are measured."""
    row_bytes: int
    """Of disk that is taken at one time for each row, generously."""
    begun: Callable[[Path | None], Callable[[Path, int], None] | None]
    """What makes a run of so many rows in a folder; None where that needs data that are not there.
    """


def _text(data: Path | None) -> Callable[[Path, int], None] | None:
    if data is None or not (data / "captions").is_dir():
        return None
    pool = scale_captions.pool(captions.real(data))
    queries = captions.queries(data, _QUERIES)
    return lambda folder, rows: scale_captions.make(folder, rows, pool, queries)


def _dedup(_: Path | None) -> Callable[[Path, int], None]:
    return scale_hashes.make


def _shards(data: Path | None) -> Callable[[Path, int], None]:
    pictures = scale_images.photos(data)
    return lambda folder, rows: scale_images.make(folder, rows, pictures)


SUITES = {
    "text": Suite(
        (2_000_000, 6_300_000, 20_000_000),
        ("ingest", "match", "draw", "balance"),
        50_000,
        1500,
        _text,
    ),
    "dedup": Suite((500_000, 1_600_000, 5_000_000), ("dedup",), 20_000, 2000, _dedup),
    "shards": Suite((20_000, 63_000, 200_000), ("shard", "verify"), 2_000, 25_000, _shards),
}


def main(asked: argparse.Namespace) -> None:
    points: list[Point] = []
    for name in asked.only:
        suite = SUITES[name]
        make = suite.begun(asked.data)
        if make is None:
            print(f"{asked.data or 'no folder'} holds no captions: {name} is skipped")
            continue
        sizes = [max(1, round(rows * asked.share)) for rows in suite.sizes]
        for turn in range(asked.rounds):
            for rows in sizes:
                points += _measured(suite, make, rows, asked.scratch, turn)
                # What was measured is there, whatever happens to the sizes to come.
                scale_told.keep(points, asked.share)
    if points:
        scale_told.show(points, asked.share)


def _measured(
    suite: Suite, make: Callable[[Path, int], None], rows: int, scratch: Path | None, turn: int
) -> list[Point]:
    """What the stages of one size take; nothing of it stays on disk."""
    with tempfile.TemporaryDirectory(prefix="bench-scale-", dir=scratch) as made:
        needed, free = suite.row_bytes * rows, shutil.disk_usage(made).free
        if free < needed:
            raise SystemExit(
                f"{made} has {free / _GIGABYTE:.0f} GB and {rows:,} rows need some "
                f"{needed / _GIGABYTE:.0f}: make room, name another folder (--scratch) or a --share"
            )
        folder = Path(made) / "size"
        make(folder, rows)
        make(folder / WARM, suite.warm)
        looks: list[Look] = []
        command = [sys.executable, "-m", "benchmarks.scale_stage", str(folder), *suite.verbs]
        cost(command, looks)
        told = [json.loads(line) for line in (folder / TOLD).read_text().splitlines()]
    return [
        Point(
            stage=stage["verb"],
            size=rows,
            turn=turn,
            rows=stage["rows_in"],
            rows_out=stage["rows_out"],
            cpu=stage["cpu"],
            clock=stage["ended"] - stage["began"],
            peak=_peak(looks, stage["began"], stage["ended"]),
            shuffled=stage["shuffled"],
            written=_written(looks, stage["began"], stage["ended"]),
        )
        for stage in told
    ]


def _peak(looks: Sequence[Look], began: float, ended: float) -> int:
    """Of the last look before, too: a short stage may end between two of them."""
    last = max((look.when for look in looks if look.when < began), default=began)
    return max((look.memory for look in looks if last <= look.when <= ended), default=0)


def _written(looks: Sequence[Look], began: float, ended: float) -> int:
    """From the last look before to the first one after, by processes that ended too."""
    first = max((look.when for look in looks if look.when < began), default=began)
    last = min((look.when for look in looks if look.when > ended), default=ended)
    within = [look for look in looks if first <= look.when <= last]
    return sum(
        now - before.written.get(pid, 0)
        for before, after in pairwise(within)
        for pid, now in after.written.items()
    )


def _asked(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench-scale", description=__doc__)
    parser.add_argument("--data", type=Path, help="real captions and photos")
    parser.add_argument("--share", type=float, default=1.0, help="of the sizes (1)")
    parser.add_argument(
        "--only", action="append", choices=list(SUITES), help="one of them, or more"
    )
    parser.add_argument("--rounds", type=int, default=1, help="each size so often, in turn (1)")
    parser.add_argument("--scratch", type=Path, help="where all of it lies meanwhile")
    asked = parser.parse_args(words)
    asked.only = asked.only or list(SUITES)
    return asked


if __name__ == "__main__":
    main(_asked(sys.argv[1:]))
