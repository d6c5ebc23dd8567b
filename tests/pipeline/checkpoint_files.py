"""Small checkpoints, for the tests of what is written and of what is refused."""

import json

import torch

from pipeline.settings import LoaderSettings, TrainSettings
from pipeline.trainer import checkpoint, rng, tensor_files
from pipeline.trainer.checkpoint import State

WEIGHTS = {
    "w": torch.arange(6.0).view(2, 3),
    "scale": torch.tensor(1.5),
    "running": torch.tensor(3),
}
PARAMETERS = {name: WEIGHTS[name] for name in ("w", "scale")}
STATISTICS = {
    f"{name}/{kind}": torch.full_like(WEIGHTS[name], 0.5)
    for name in PARAMETERS
    for kind in ("exp_avg", "exp_avg_sq")
} | {f"{name}/step": torch.tensor(7.0) for name in PARAMETERS}


def state(step=3, **changes):
    settings = TrainSettings().model_dump(mode="json", exclude=set(TrainSettings.pace))
    settings |= LoaderSettings().model_dump(mode="json", exclude=set(LoaderSettings.pace))
    fields = {"step": step, "model": "tiny", "vocabulary": 600, "tokenizer": "t", "samples": 24}
    fields |= {"shards": "s", "skipped": {"undecodable": 1}, "loss": 0.5, "settings": settings}
    return State(**(fields | changes))


def saved(folder, step=3, keep=3, keep_every=None, **changes):
    told = state(step, **changes)
    return checkpoint.save(folder, WEIGHTS, STATISTICS, rng.states(), told, keep, keep_every)


def vouched_for(path, **changes):
    """Make the digests of a changed checkpoint right again."""
    told = json.loads((path / "state.json").read_text()) | changes
    told["sha256"] = {name: tensor_files.sha256(path / name) for name in told["sha256"]}
    (path / "state.json").write_text(json.dumps(told))
