"""Training curve: what a training logged, as small curves over its steps, for the report."""

import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jobs import pictures
from pipeline.trainer.sinks import METRICS, lines_of

_POINTS = 1_000
"""A screen has no more columns to tell them apart."""
_CURVES = {
    "loss": "loss",
    "lr": "learning rate",
    "logit_scale": "logit scale",
    "grad_norm": "gradient norm",
    "pairs_per_second": "pairs/s",
    "data_share": "share of waiting for data",
    "mfu": "MFU",
}

Column = npt.NDArray[np.float64]


def training_curve(folder: Path, batch_size: int) -> dict[str, Any] | None:
    """The curves of the training in `folder`, and how it stands; None where nothing is logged."""
    columns = _columns(folder / METRICS)
    steps, losses = columns.pop("step"), columns["loss"]
    if not np.isfinite(losses).any():
        return None
    chance = math.log(batch_size)
    shown = {name: values for name, values in columns.items() if np.isfinite(values).any()}
    thinned = _thinned(steps, shown)
    last = float(losses[np.isfinite(losses)][-1])
    title = f"Training: loss {last:.3f} at step {int(steps[-1]):,}; chance is {chance:.3f}"
    curves = {_CURVES[name]: thinned[name] for name in shown}
    return {
        "picture": pictures.curves(
            thinned["step"], curves, title=title, level=("loss", chance, f"chance {chance:.2f}")
        ),
        "step": int(steps[-1]),
        "loss": last,
        "chance": chance,
        "lines": len(steps),
        "points": len(thinned["step"]),
        "thinned": thinned,
        "means": {
            name: _mean(columns[name])
            for name in ("pairs_per_second", "mfu", "data_share")
            if name in shown
        },
    }


def _columns(path: Path) -> dict[str, Column]:
    """The numbers of every line that can be read, by step; NaN where one is missing."""
    rows: dict[int, list[float]] = {}
    for line in lines_of(path):
        rows[line["step"]] = [_number(line.get(name)) for name in _CURVES]
    steps = sorted(rows)
    table = np.array([rows[step] for step in steps], np.float64).reshape(-1, len(_CURVES))
    columns = {name: table[:, place] for place, name in enumerate(_CURVES)}
    return {"step": np.array(steps, np.float64), **columns}


def _number(value: Any) -> float:
    # JSON has ints of a thousand digits, and sums of what is near the largest float have none.
    is_small = isinstance(value, int | float) and -1e100 < value < 1e100
    return float(value) if is_small else math.nan


def _thinned(steps: Column, columns: Mapping[str, Column]) -> dict[str, Column]:
    """At most `_POINTS` points: means of neighbours; of gradients the largest, which tell most."""
    ends = np.linspace(0, len(steps), min(len(steps), _POINTS) + 1).astype(np.int64)
    found = {"step": steps[ends[1:] - 1]}
    for name, values in columns.items():
        take = np.fmax.reduce if name == "grad_norm" else _mean
        parts = [take(values[begin:end]) for begin, end in pairwise(ends)]
        found[name] = np.array(parts, np.float64)
    return found


def _mean(values: Column) -> float:
    there = values[np.isfinite(values)]
    return float(np.mean(there)) if len(there) else math.nan
