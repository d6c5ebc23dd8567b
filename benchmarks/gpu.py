"""GPU: pairs per second, MFU and peak memory of training, beside open_clip or transformers,
and fed from shards beside pairs that lie on the GPU.

python -m benchmarks.gpu [--models ...] [--batches ...] [--dry]

The peer is open_clip where this environment has it, or transformers; without either ours is
measured alone. Where a batch takes more memory than there is, gradients are checkpointed, and then
(ours) computed in micro-batches: each line says so. With --dry the whole is done on the CPU with
small models, to see that it works and not how fast.
"""

import argparse
import json
import os
import random
import string
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import form, loader
from benchmarks.form import Figure, seconds_told
from benchmarks.gpu_contenders import (
    GIB,
    Contender,
    Fitted,
    OursOn,
    Task,
    Way,
    fit,
    free,
    named,
    peers,
    synchronize,
)
from benchmarks.training import VOCABULARY, drawn, lengths
from pipeline.settings import LoaderSettings
from pipeline.tokenizer import Tokenizer
from pipeline.trainer.architectures import ARCHITECTURES, architecture
from pipeline.trainer.feeding import fed
from pipeline.trainer.flops import training_flops
from pipeline.trainer.instruments import peak_tflops
from pipeline.trainer.parallel import ALONE, Ranks
from pipeline.trainer.samples import Batch, Batches, Samples

_KEPT = 4
"""Batches of the shards that are learned from again and again, as synthetic ones."""
_COLUMNS = ("model", "pairs", "who", "how", "pairs/s", "MFU", "peak GiB")


@dataclass(frozen=True)
class Plan:
    """What is measured, and how long."""

    models: tuple[str, ...] = ("ViT-B/32", "ViT-L/14")
    batches: tuple[int, ...] = (1024, 2048, 4096, 8192)
    rounds: int = 5
    steps: int = 4
    """That are timed together."""
    warm_up: int = 6
    """Steps before any is timed: kernels are compiled, and batches made ahead are used up."""
    vocabulary: int = VOCABULARY
    images: int = 10_000
    """In the shards."""
    fed_pairs: int = 1024
    fed_steps: int = 80
    """So many that the one batch which is made while the clock is started does not tell."""
    fed_rounds: int = 3
    workers: int = max(1, (os.cpu_count() or 2) - 1)
    peak: float | None = None
    """Dense bf16 TFLOP/s of the GPU, where its name does not tell."""


DRY = Plan(
    models=("tiny",),
    batches=(8, 16),
    rounds=2,
    steps=1,
    warm_up=1,
    vocabulary=514,
    images=32,
    fed_pairs=8,
    fed_steps=2,
    fed_rounds=1,
    workers=1,
)


@dataclass(frozen=True)
class Row:
    """One contender on one model and batch; the figures are None where memory did not suffice."""

    model: str
    pairs: int
    who: str
    how: str
    pairs_per_second: float | None = None
    mfu: float | None = None
    peak_gib: float | None = None


def main(plan: Plan, ranks: Ranks) -> list[Row]:
    device = ranks.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU"
    peak = plan.peak or peak_tflops(name)
    kinds = [OursOn, *peers()[:1]]
    console = Console(highlight=False, width=140)
    versions = ", ".join([f"torch {torch.__version__}", *map(named, kinds[1:])])
    console.print(f"{name} with a peak of {peak or 'unknown'} TFLOP/s, {versions}")
    rows: list[Row] = []
    fed_rates: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-gpu-") as scratch:
        shards = Path(scratch, "shards")
        write_shards(shards, plan.images)
        for model in plan.models:
            for pairs in plan.batches:
                task = Task(model, pairs, plan.vocabulary, ranks, Path(scratch))
                rows += compared(task, kinds, plan, peak)
                free(device)
                for row in rows[-len(kinds) :]:
                    console.print(*_cells(row), sep="  ")
            task = Task(model, plan.fed_pairs, plan.vocabulary, ranks, Path(scratch))
            fed_rates[model] = fed_and_not(task, plan, shards)
            free(device)
    table = Table(*_COLUMNS, title="bench-gpu", title_justify="left")
    for row in rows:
        table.add_row(*_cells(row))
    console.print(table)
    form.RESULTS.mkdir(parents=True, exist_ok=True)
    kept = {"device": name, "versions": versions, "rows": [asdict(row) for row in rows]}
    (form.RESULTS / "gpu-rows.json").write_text(json.dumps(kept, indent=1) + "\n")
    form.publish("gpu", figures(rows, fed_rates, is_dry=device.type != "cuda"))
    return rows


def compared(task: Task, kinds: list[Any], plan: Plan, peak: float | None) -> list[Row]:
    """All contenders on the same pairs, in turns."""
    arch = architecture(task.model)
    batch = drawn(task.model, lengths(task.pairs, 0, arch.context), task.vocabulary)
    batch = on(batch, task.device)
    fitted: dict[str, Fitted | None] = {}
    for kind in kinds:
        build = partial(kind, task, batch)
        fitted[named(kind)] = fit(kind.ways(task), build, task.device, plan.warm_up)

    def turn(contender: Contender) -> None:
        for _ in range(plan.steps):
            contender.step()
        synchronize(task.device)

    turns = {name: partial(turn, one.contender) for name, one in fitted.items() if one}
    seconds = form.alternate(turns, rounds=plan.rounds, measure=form.wall_seconds)
    rows = []
    for name, one in fitted.items():
        row = Row(task.model, task.pairs, name, "out of memory")
        if one is not None:
            rate = task.pairs * plan.steps / seconds[name]
            mfu = rate * training_flops(arch) / (peak * 1e12) if peak else None
            row = Row(task.model, task.pairs, name, _how(one.way), rate, mfu, one.peak_bytes / GIB)
        rows.append(row)
    return rows


def fed_and_not(task: Task, plan: Plan, shards: Path) -> dict[str, float]:
    """Pairs per second of ours from shards, and from pairs of theirs that lie on the device."""
    # Of the shards' captions each letter is a token.
    samples, cutter = Samples(shards, LoaderSettings(workers=plan.workers)), Tokenizer([])
    arch = architecture(task.model)
    batches = Batches(samples, cutter, task.pairs, arch.resolution, arch.context, seed=0)
    kept = [on(batches.at(step), task.device) for step in range(_KEPT)]
    fitted = fit(
        OursOn.ways(task), partial(OursOn, task, kept[0]), task.device, warm_up=plan.warm_up
    )
    if fitted is None:
        return {}
    learn = fitted.contender.training.step
    for batch in kept:
        learn(batch)  # kernels for their lengths

    def timed(coming: Iterable[Batch]) -> float:
        began = 0.0
        for number, batch in enumerate(coming, start=1):
            learn(batch)
            if number == plan.warm_up:
                synchronize(task.device)
                began = time.perf_counter()
        synchronize(task.device)
        return time.perf_counter() - began

    def from_shards() -> float:
        pin = task.device.type == "cuda"
        with closing(batches.between(0, plan.warm_up + plan.fed_steps, pin=pin)) as coming:
            return timed(fed(coming, task.device))

    def synthetic() -> float:
        return timed(islice(cycle(kept), plan.warm_up + plan.fed_steps))

    contenders = {"from shards": from_shards, "synthetic": synthetic}
    seconds = form.alternate(contenders, rounds=plan.fed_rounds, measure=seconds_told)
    samples.close()
    return {name: task.pairs * plan.fed_steps / spent for name, spent in seconds.items()}


def figures(
    rows: list[Row], fed_rates: dict[str, dict[str, float]], *, is_dry: bool
) -> list[Figure]:
    """What the goals are about, and how ours compares wherever both have a figure."""
    found = []
    done = [row for row in rows if row.pairs_per_second is not None]
    for row in done:
        if row.who == OursOn.name:
            what = f"{row.model}, {row.pairs:,} pairs ({row.how})"
            same = (row.model, row.pairs)
            other = next((o for o in done if (o.model, o.pairs) == same and o is not row), None)
            goal = 2.0 if row.model == "ViT-B/32" and other else None
            rate = None if other is None else other.pairs_per_second
            name = None if other is None else f"{other.who} ({other.how})"
            found.append(Figure(what, row.pairs_per_second, "pairs/s", rate, name, goal))
    ours = [row for row in done if row.who == OursOn.name]
    best = max((r.pairs_per_second for r in ours if r.model == "ViT-B/32"), default=None)
    if best is not None:
        found.append(Figure("ViT-B/32, the best batch", best, "pairs/s", goal=10_000))
    shares = [row.mfu for row in ours if row.model == "ViT-L/14" and row.mfu is not None]
    if shares:
        found.append(Figure("ViT-L/14, the best batch", max(shares), "of the peak", goal=0.5))
    for model, rate in fed_rates.items():
        if rate:
            real, synthetic = rate["from shards"], rate["synthetic"]
            goal = None if is_dry else 0.97
            what = f"{model}, from shards"
            found.append(Figure(what, real, "pairs/s", synthetic, "pairs on the GPU", goal))
    return found


def on(batch: Batch, device: torch.device) -> Batch:
    """A batch of its own memory, on the device."""
    image, tokens = (tensor.clone().to(device) for tensor in (batch.image_BHWC, batch.tokens_BL))
    return replace(batch, image_BHWC=image, tokens_BL=tokens)


def write_shards(folder: Path, images: int) -> None:
    """So many pairs: clouds as large as photos, and letters, as many as captions have tokens."""
    folder.mkdir()
    chance = random.Random(0)
    captions = []
    for length in lengths(images, 0).tolist():
        letters = [chance.choice(string.ascii_lowercase) for _ in range(max(1, length - 2))]
        captions.append("".join(letter + " " * (n % 5 == 4) for n, letter in enumerate(letters)))
    pictures, _ = loader.clouds()
    per_shard = min(images, 1000)
    loader.write(folder, loader.pairs(pictures, captions, images), images // per_shard, per_shard)


def _how(way: Way) -> str:
    return ", ".join(f"{name} = {value}" for name, value in way.items()) or "all at once"


def _cells(row: Row) -> list[str]:
    cells = [row.model, f"{row.pairs:,}", row.who, row.how]
    cells.append("" if row.pairs_per_second is None else f"{row.pairs_per_second:,.0f}")
    cells.append("" if row.mfu is None else f"{row.mfu:.1%}")
    return [*cells, "" if not row.peak_gib else f"{row.peak_gib:.1f}"]


def plan_of(given: list[str]) -> tuple[Plan, Ranks]:
    """What the command line asks for. Exits with 2 where it asks for what is not there."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu")
    parser.add_argument("--dry", action="store_true", help="on the CPU, with a small model")
    parser.add_argument("--models", nargs="+", choices=list(ARCHITECTURES))
    parser.add_argument("--batches", nargs="+", type=int)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--workers", type=int, help="processes that decode")
    parser.add_argument("--peak", type=float, help="dense bf16 TFLOP/s of the GPU")
    asked = vars(parser.parse_args(given))
    if asked.pop("dry"):
        plan, ranks = DRY, ALONE
    elif torch.cuda.is_available():
        plan, ranks = Plan(), replace(ALONE, device=torch.device("cuda", 0))
    else:
        parser.exit(2, "bench-gpu needs a GPU, and torch finds none: --dry shows it on a CPU\n")
    changes = {name: value for name, value in asked.items() if value is not None}
    lists = {name: tuple(changes.pop(name)) for name in ("models", "batches") if name in changes}
    return replace(plan, **changes, **lists), ranks


if __name__ == "__main__":
    main(*plan_of(sys.argv[1:]))
