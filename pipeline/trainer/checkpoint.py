"""Checkpoint: a folder with all that a run needs to go on, or a reader to use the model.

model.safetensors, optimizer.safetensors and state.json with their digests. A checkpoint is written
beside its place and moved there whole; reading one never runs code.
"""

import hashlib
import json
import os
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipeline.errors import BadInput, WitError
from pipeline.trainer.architectures import architecture
from pipeline.trainer.model import CLIP

_MODEL, _OPTIMIZER, _STATE = "model.safetensors", "optimizer.safetensors", "state.json"
_NAME = re.compile(r"step_(\d{9,})")


class DamagedCheckpoint(WitError):
    """A checkpoint cannot be read, or is another model's."""


@dataclass(frozen=True)
class State:
    """What a checkpoint says of itself."""

    step: int
    """Steps done; the next batch is the one of this number."""
    model: str
    vocabulary: int
    tokenizer: str
    """Digest of the merges that its texts were cut with."""
    samples: int
    """Of the shards it learns from: with the seed they fix every batch."""
    shards: str
    """Digest of their names and lengths."""
    skipped: dict[str, int]
    """Samples that could not be read so far, by reason."""
    loss: float
    """Of the last step."""
    settings: dict[str, Any]


_READER = TypeAdapter(State)


def save(
    folder: Path, model: CLIP, optimizer: torch.optim.Optimizer, state: State, keep: int
) -> Path:
    """Write the checkpoint of `state.step` into `folder`, and leave only the newest `keep`."""
    place = folder / f"step_{state.step:09d}"
    staged = folder / f".{place.name}"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    save_file(dict(model.state_dict()), staged / _MODEL)
    save_file(_flat(model, optimizer), staged / _OPTIMIZER)
    digests = {name: _sha256(staged / name) for name in (_MODEL, _OPTIMIZER)}
    told = json.dumps({**asdict(state), "sha256": digests}, indent=1)
    (staged / _STATE).write_text(told, encoding="utf-8")
    for file in (*staged.iterdir(), staged):
        _sync(file)
    shutil.rmtree(place, ignore_errors=True)
    staged.replace(place)
    _sync(folder)
    for old in _all(folder)[:-keep]:
        shutil.rmtree(old)
    return place


def latest(folder: Path) -> Path | None:
    """The newest whole checkpoint of `folder`, if there is one."""
    return next(iter(reversed(_all(folder))), None)


def _all(folder: Path) -> list[Path]:
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step_")))


def read_state(path: Path) -> State:
    """What the checkpoint at `path` says of itself, its files checked against their digests."""
    try:
        text = (path / _STATE).read_text(encoding="utf-8")
        digests = json.loads(text)["sha256"]
        state = _READER.validate_json(text, strict=True)
        damaged = [name for name in (_MODEL, _OPTIMIZER) if _sha256(path / name) != digests[name]]
    except (OSError, ValueError, TypeError, KeyError) as error:
        told = " ".join(str(error).split()[:20])
        raise _damaged(path, f"{_STATE}: {told}") from None
    if damaged:
        raise _damaged(path, f"{' and '.join(damaged)} changed since it was written")
    return state


def load_model(path: Path) -> tuple[CLIP, State]:
    """The model of the checkpoint at `path`, on the CPU."""
    state = read_state(path)
    # Nothing is allocated before the weights are known to be as large as the state says.
    with torch.device("meta"):
        model = CLIP(architecture(state.model), state.vocabulary)
    restore_model(path, model)
    return model, state


def restore_model(path: Path, model: nn.Module) -> None:
    """Set the weights of `model` to those of the checkpoint at `path`."""
    weights, wanted = _tensors(path / _MODEL), model.state_dict()
    _compare(path, weights, wanted)
    is_empty = any(weight.is_meta for weight in wanted.values())
    model.load_state_dict(weights, assign=is_empty)


def restore_optimizer(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Set the statistics of `optimizer` to those of the checkpoint at `path`."""
    flat = _tensors(path / _OPTIMIZER)
    parameters = dict(model.named_parameters())
    state: dict[Tensor, dict[str, Tensor]] = {p: {} for p in parameters.values()}
    for name, value in flat.items():
        owner, _, statistic = name.rpartition("/")
        if owner not in parameters or value.shape not in ((), parameters[owner].shape):
            raise _damaged(path, f"its optimizer holds `{name}`, which is another model's")
        # The count of steps stays on the CPU, as AdamW keeps it.
        device = parameters[owner].device if value.ndim else torch.device("cpu")
        state[parameters[owner]][statistic] = value.to(device)
    if not all(state.values()):
        raise _damaged(path, "its optimizer lacks statistics of some weights")
    optimizer.state.clear()
    optimizer.state.update(state)


def _flat(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{name}/{statistic}": value.contiguous()
        for name, parameter in model.named_parameters()
        for statistic, value in optimizer.state[parameter].items()
    }


def _tensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (OSError, SafetensorError, ValueError) as error:
        raise _damaged(file.parent, f"{file.name}: {error}") from None


def _compare(path: Path, found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    odd = sorted(found.keys() ^ wanted.keys())
    odd += [n for n in sorted(found.keys() & wanted.keys()) if found[n].shape != wanted[n].shape]
    if odd:
        raise _damaged(path, f"another model's weights: {len(odd)} differ, `{odd[0]}` first")


def _damaged(path: Path, why: str) -> DamagedCheckpoint:
    return DamagedCheckpoint(
        f"{path} cannot be used ({why}): delete it to go on from the checkpoint before it"
    )


def check_same(path: Path, found: State, wanted: State) -> None:
    """Raise BadInput when the checkpoint at `path` is of another training than `wanted`."""
    was, now = _identity(found), _identity(wanted)
    changed = [key for key in sorted(was | now) if was.get(key) != now.get(key)]
    if changed:
        told = ", ".join(f"{key} was {was.get(key)} and is {now.get(key)}" for key in changed)
        raise BadInput(
            f"{path} is of another training ({told}): train from the beginning with "
            "`wit train --again`"
        )


def digest(path: Path) -> str:
    """What the weights of a checkpoint are known by."""
    return _sha256(path / _MODEL)


def _identity(state: State) -> dict[str, Any]:
    """What fixes every weight of a training."""
    fixed = ("model", "vocabulary", "tokenizer", "samples", "shards")
    return state.settings | {name: getattr(state, name) for name in fixed}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
