"""Sinks: where the lines of a training's log go. A file of JSON, TensorBoard, Weights & Biases.

writes  metrics.jsonl, tensorboard/, wandb/ and wandb_id beside the checkpoints

A training that goes on from a step forgets the lines behind it, and writes them again.
"""

import importlib
import json
import math
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from pipeline.errors import BadInput

METRICS = "metrics.jsonl"
_MAX_LINE = 1 << 16
Line = dict[str, Any]


class Sink(Protocol):
    """Takes one line after another."""

    def write(self, line: Line) -> None: ...

    def close(self) -> None: ...


def lines_of(path: Path) -> Iterator[Line]:
    """The lines of a metrics.jsonl that can be read.

    A killed process leaves half a line; whatever else is in the file is passed over too.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        while raw := file.readline(_MAX_LINE):
            try:
                line = json.loads(raw)
            except (ValueError, RecursionError):
                continue
            if isinstance(line, dict) and _is_step(line.get("step")):
                yield line


def _is_step(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53


class Jsonl:
    """metrics.jsonl: a line is in the file when it is written, and none is lost by a kill."""

    def __init__(self, folder: Path, first: int) -> None:
        path = folder / METRICS
        self.kept = [line for line in lines_of(path) if line["step"] <= first]
        """The lines of earlier processes, up to step `first`."""
        staged = path.with_name(f".{METRICS}")
        with staged.open("w", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(line)}\n" for line in self.kept)
            file.flush()
            os.fsync(file.fileno())
        staged.replace(path)
        self._file = path.open("a", encoding="utf-8")

    def write(self, line: Line) -> None:
        self._file.write(f"{json.dumps(line)}\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class TensorBoard:
    """`tensorboard` beside the checkpoints: a curve for each number of the lines."""

    def __init__(self, folder: Path, first: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise BadInput(
                "train.tensorboard: the package tensorboard is not installed: "
                "`pip install tensorboard`, or set it to false"
            ) from None
        # What an earlier process wrote behind the checkpoint is not shown any more.
        self._writer: Any = SummaryWriter(str(folder / "tensorboard"), purge_step=first + 1)

    def write(self, line: Line) -> None:
        for name, value in _numbers(line):
            self._writer.add_scalar(f"train/{name}", value, line["step"])
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class Wandb:
    """A run of Weights & Biases; a training that goes on, goes on in the same one."""

    def __init__(self, folder: Path, project: str, settings: Mapping[str, Any]) -> None:
        wandb = _wandb()
        kept = folder / "wandb_id"
        if not kept.exists():
            kept.write_text(secrets.token_hex(4), encoding="utf-8")
        try:
            self._run = wandb.init(
                project=project,
                id=kept.read_text(encoding="utf-8").strip(),
                resume="allow",
                dir=str(folder),
                config=dict(settings),
            )
        except wandb.Error as error:
            raise BadInput(f"train.wandb_project: {error}") from None

    def write(self, line: Line) -> None:
        # Steps that it has seen it does not take again: a resumed run brings the same numbers.
        self._run.log({f"train/{name}": value for name, value in _numbers(line)}, step=line["step"])

    def close(self) -> None:
        self._run.finish()


def _wandb() -> Any:
    """The package, with an account. Raises BadInput where one of them is not there."""
    try:
        wandb = importlib.import_module("wandb")
    except ImportError:
        raise BadInput(
            "train.wandb_project: the package wandb is not installed: `pip install wandb`, or "
            "leave the setting out"
        ) from None
    needs_account = os.environ.get("WANDB_MODE", "online") == "online"
    if needs_account and not wandb.api.api_key:
        raise BadInput(
            "train.wandb_project: nobody is logged in: run `wandb login`, set WANDB_MODE=offline "
            "to send the run later, or leave the setting out"
        )
    return wandb


def _numbers(line: Line) -> list[tuple[str, float]]:
    found = [(name, value) for name, value in line.items() if name != "step"]
    return [(name, value) for name, value in found if value is not None and math.isfinite(value)]
