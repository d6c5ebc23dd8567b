"""Checkpoint: a folder with all that a run needs to go on, or a reader to use the model.

model.safetensors, optimizer.safetensors, rng.safetensors, and state.json with their digests: the
same files for one process or many, whole weights or shards of them. A checkpoint is written beside
its place and moved there whole; reading one never runs code.
"""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from pipeline.errors import BadInput, WitError
from pipeline.settings import LoaderSettings, TrainSettings
from pipeline.staged import sync
from pipeline.trainer import tensor_files
from pipeline.trainer.architectures import architecture
from pipeline.trainer.model import CLIP
from pipeline.trainer.tensor_files import UnreadableTensors, one_line
from pipeline.trainer.transformer import Activation

_FORMAT = 2
_MODEL, _OPTIMIZER, _RNG = "model.safetensors", "optimizer.safetensors", "rng.safetensors"
_STATE = "state.json"
_MAX_STATE_BYTES = 1 << 20
_NAME = re.compile(r"step_(\d{9,15})", re.ASCII)
_LEFT = re.compile(r"\.(?:old_)?step_\d{9,15}", re.ASCII)
"""What a killed process leaves: a checkpoint half written, or half removed."""


class DamagedCheckpoint(WitError):
    """A checkpoint cannot be read, or is another model's."""


class NotSaved(WitError):
    """A checkpoint could not be written."""


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
    activation: Activation = "quick_gelu"
    """Of the transformers; that of the weights it began with."""
    code: str = "unknown"
    """The version of this package, as the job knows it."""
    torch: str = "unknown"
    format: int = 1
    """Of the files; the first one had no random numbers."""


_READER = TypeAdapter(State)


# ---- writing -----------------------------------------------------------------------------------
def save(
    folder: Path,
    model: Mapping[str, Tensor],
    optimizer: Mapping[str, Tensor],
    rng: Mapping[str, Tensor],
    state: State,
    keep: int,
    keep_every: int | None = None,
) -> Path:
    """Write the checkpoint of `state.step` into `folder`, and remove those that need not be kept.

    `model` and `optimizer` are whole: every weight by its name, every statistic by `weight/name`.
    The newest `keep` stay, and all whose step is a multiple of `keep_every`. Raises NotSaved, and
    leaves the others as they were.
    """
    place = folder / f"step_{state.step:09d}"
    staged = folder / f".{place.name}"
    _sweep(folder)
    if place.exists() and _is_whole(place):
        return place  # this training was here before: the same bits
    try:
        staged.mkdir(parents=True)
        files = {_MODEL: model, _OPTIMIZER: optimizer, _RNG: rng}
        digests = {name: tensor_files.write(held, staged / name) for name, held in files.items()}
        told = asdict(state) | {"torch": torch.__version__, "format": _FORMAT, "sha256": digests}
        (staged / _STATE).write_text(json.dumps(told, indent=1), encoding="utf-8")
        for path in (staged / _STATE, staged):
            sync(path)
        _remove(place)
        staged.replace(place)
        sync(folder)
    except OSError as error:
        shutil.rmtree(staged, ignore_errors=True)
        raise NotSaved(
            f"the checkpoint of step {state.step:,} could not be written to {folder} "
            f"({error.strerror}): make room or lower train.keep_checkpoints; `wit train` goes on "
            "from the last one that is there"
        ) from None
    for old in _all(folder)[:-keep]:
        if keep_every is None or _step(old) % keep_every:
            _remove(old)
    return place


def _is_whole(path: Path) -> bool:
    try:
        read_state(path)
    except DamagedCheckpoint:
        return False
    return True


def _remove(path: Path) -> None:
    """Remove a checkpoint so that what is left of it by a kill is never taken for one."""
    if path.exists():
        hidden = path.with_name(f".old_{path.name}")
        path.replace(hidden)
        shutil.rmtree(hidden, ignore_errors=True)


def _sweep(folder: Path) -> None:
    for path in folder.iterdir() if folder.exists() else ():
        if _LEFT.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


# ---- finding -----------------------------------------------------------------------------------
def latest(folder: Path) -> Path | None:
    """The newest checkpoint of `folder`, if there is one."""
    return next(iter(reversed(_all(folder))), None)


def _all(folder: Path) -> list[Path]:
    return sorted((path for path in folder.iterdir() if _NAME.fullmatch(path.name)), key=_step)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step_"))


# ---- reading -----------------------------------------------------------------------------------
def read_state(path: Path) -> State:
    """What the checkpoint at `path` says of itself, its files checked against their digests."""
    try:
        with (path / _STATE).open("rb") as file:
            raw = file.read(_MAX_STATE_BYTES + 1)
        if len(raw) > _MAX_STATE_BYTES:
            raise ValueError("larger than any that was ever written")
        state = _READER.validate_json(raw, strict=True)
        if not 1 <= state.format <= _FORMAT:
            raise ValueError(f"of format {state.format}, by version {state.code} of this package")
        digests = json.loads(raw)["sha256"]
        names = [_MODEL, _OPTIMIZER] + [_RNG] * (state.format > 1)
        damaged = [name for name in names if tensor_files.sha256(path / name) != digests[name]]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise _damaged(path, f"{_STATE}: {error}") from None
    if damaged:
        raise _damaged(path, f"{' and '.join(damaged)} changed since it was written")
    return state


def load_model(path: Path) -> tuple[CLIP, State]:
    """The model of the checkpoint at `path`, on the CPU."""
    state = read_state(path)
    # Nothing is allocated before the weights are known to be as large as the state says.
    with torch.device("meta"):
        model = CLIP(architecture(state.model), state.vocabulary, activation=state.activation)
    restore_model(path, model)
    return model, state


def model_tensors(path: Path, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the checkpoint at `path`, whole, on the CPU: those of `wanted`, by name."""
    try:
        return tensor_files.fitting(tensor_files.read(path / _MODEL), wanted)
    except UnreadableTensors as error:
        raise _damaged(path, str(error)) from None


def optimizer_tensors(path: Path, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The statistics of the checkpoint at `path`, by `weight/name`: some for each of `weights`."""
    try:
        found = tensor_files.read(path / _OPTIMIZER)
    except UnreadableTensors as error:
        raise _damaged(path, str(error)) from None
    owners = {name: name.rpartition("/")[0] for name in found}
    for name, owner in owners.items():
        is_ours = owner in weights and found[name].shape in ((), weights[owner].shape)
        if not (is_ours and found[name].is_floating_point()):
            raise _damaged(path, f"its optimizer holds `{name}`, which is another model's")
    if weights.keys() - owners.values():
        raise _damaged(path, "its optimizer lacks statistics of some weights")
    return {
        # The count of steps stays what it is, whatever the weights are.
        name: value if name.endswith("/step") else value.to(weights[owners[name]].dtype)
        for name, value in found.items()
    }


def restore_model(path: Path, model: nn.Module) -> None:
    """Set the weights of `model` to those of the checkpoint at `path`."""
    wanted = model.state_dict()
    weights = model_tensors(path, wanted)
    is_empty = any(weight.is_meta for weight in wanted.values())
    model.load_state_dict(weights, assign=is_empty)


def rng_tensors(path: Path) -> dict[str, Tensor]:
    """The states of random numbers of the checkpoint at `path`, as rng.restore takes them."""
    if not (path / _RNG).exists():
        return {}  # of the first format
    try:
        return tensor_files.read(path / _RNG)
    except UnreadableTensors as error:
        raise _damaged(path, str(error)) from None


def digest(path: Path) -> str:
    """What the weights of a checkpoint are known by; they were checked when it was read."""
    return str(json.loads((path / _STATE).read_bytes())["sha256"][_MODEL])


def _damaged(path: Path, why: str) -> DamagedCheckpoint:
    return DamagedCheckpoint(
        f"{path} cannot be used ({one_line(why)}): delete it to go on from the checkpoint before it"
    )


# ---- comparing ---------------------------------------------------------------------------------
def check_same(path: Path, found: State, wanted: State) -> list[str]:
    """What differs of the checkpoint `found` at `path` and the training `wanted`, and may.

    Raises BadInput with all that differs and must not.
    """
    was, now = _identity(found), _identity(wanted)
    changed = [key for key in sorted(was | now) if was.get(key) != now.get(key)]
    if changed:
        values = [(key, one_line(str(was.get(key))), now.get(key)) for key in changed]
        told = ", ".join(f"{one_line(key)} was {then} and is {this}" for key, then, this in values)
        raise BadInput(
            f"{path} is of another training ({told}): set that back, or train from the "
            "beginning with `wit train --again`"
        )
    noted = {"code": (found.code, wanted.code), "torch": (found.torch, torch.__version__)}
    return [f"{key} was {one_line(a)} and is {b}" for key, (a, b) in noted.items() if a != b]


def _identity(state: State) -> dict[str, Any]:
    """What fixes every weight of a training: the model, what it reads, every setting but pace."""
    fixed = ("model", "vocabulary", "tokenizer", "samples", "shards")
    # A setting that is younger than the checkpoint had its default: defaults keep what was.
    defaults = TrainSettings().model_dump(mode="json") | LoaderSettings().model_dump(mode="json")
    pace = TrainSettings.pace | LoaderSettings.pace
    settings = {key: value for key, value in (defaults | state.settings).items() if key not in pace}
    return settings | {name: getattr(state, name) for name in fixed}
