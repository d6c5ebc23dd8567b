"""Starting: a model and its optimizer, fresh, from given weights, or as a checkpoint left them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipeline.errors import BadInput
from pipeline.settings import TrainSettings
from pipeline.trainer import checkpoint, rng, weights
from pipeline.trainer.architectures import architecture
from pipeline.trainer.checkpoint import State
from pipeline.trainer.micro_batches import check_batch_norm
from pipeline.trainer.model import CLIP, build, compile_blocks
from pipeline.trainer.optimizer import optimizer_of, statistics
from pipeline.trainer.parallel import Ranks
from pipeline.trainer.resnet import Bottleneck
from pipeline.trainer.sharding import fill, spread
from pipeline.trainer.transformer import Activation, ResidualBlock
from pipeline.trainer.weights import Weights


class Begun(NamedTuple):
    """What is trained from here on."""

    model: nn.Module
    """`clip`, as it is spread over the ranks."""
    clip: CLIP
    optimizer: torch.optim.AdamW
    state: State
    half: bool
    """Whether the encoders compute in bf16."""


def begun(
    folder: Path,
    wanted: State,
    settings: TrainSettings,
    rows: int,
    ranks: Ranks,
    tell: Callable[[str], None],
) -> Begun:
    """Where the newest checkpoint in `folder` left off, or the beginning.

    `wanted` is the state of a training that has not begun, and `rows` are a rank's of a batch. Only
    the first rank reads; what is wrong there is raised on all.
    """
    if settings.sync_batch_norm and ranks.device.type != "cuda":
        raise BadInput("train.sync_batch_norm needs GPUs: set it to false")
    rng.begin(settings.seed, ranks.rank)
    path, state = ranks.first(lambda: _found(folder, wanted, tell))
    source = settings.weights if path is None else None
    if source is not None:
        given: list[Weights] = []  # of the first rank, until its model has them

        def read() -> Activation:
            given.append(weights.read(source))
            return given[0].activation

        state = replace(state, activation=ranks.first(read))
    model = build(
        settings.model,
        state.vocabulary,
        settings.seed,
        activation=state.activation,
        pool_last_block=settings.pool_last_block,
        gradient_checkpointing=settings.gradient_checkpointing,
    )
    allowed = settings.split_batch_norm
    check_batch_norm(model, rows, settings.micro_batch_size, is_allowed=allowed)
    if path is not None:
        ranks.first(lambda: checkpoint.restore_model(path, model))
    elif source is not None:
        ranks.first(lambda: _take(source, given.pop(), model, state))
    model = model.to(ranks.device).train()
    if _is_on(settings.compile == "on", settings.compile == "auto", ranks):
        # Over several ranks BatchNorm's shapes depend on what they told: no graph holds that.
        kinds = (ResidualBlock,) if settings.sync_batch_norm else (ResidualBlock, Bottleneck)
        compile_blocks(model, kinds=kinds)
    half = _is_on(settings.precision == "bf16", settings.precision == "auto", ranks)
    spreaded = spread(model, settings, ranks, half=half)
    optimizer = optimizer_of(model, architecture(settings.model), settings.weight_decay)
    if path is not None:
        kept: dict[str, Tensor] = {}
        weights_of = dict(model.named_parameters())
        ranks.first(lambda: kept.update(checkpoint.optimizer_tensors(path, weights_of)))
        fill(statistics(model, optimizer), kept, ranks)
        rng.restore(ranks.first(lambda: checkpoint.rng_tensors(path)), ranks.rank)
    return Begun(spreaded, model, optimizer, state, half)


def _found(folder: Path, wanted: State, tell: Callable[[str], None]) -> tuple[Path | None, State]:
    """The newest checkpoint, and the state to go on from."""
    path = checkpoint.latest(folder)
    if path is None:
        return None, wanted
    found = checkpoint.read_state(path)
    for changed in checkpoint.check_same(path, found, wanted):
        tell(f"{path.name}: {changed}")
    here = replace(wanted, step=found.step, skipped=found.skipped, loss=found.loss)
    return path, replace(here, activation=found.activation)


def _take(given: str, found: Weights, model: CLIP, wanted: State) -> None:
    """Give `model` the weights that were `found` at `given`. Raises BadInput for another's."""
    if found.model != wanted.model:
        raise BadInput(f"train.weights: {given} is a {found.model}: set train.model to that")
    if found.vocabulary != wanted.vocabulary:
        raise BadInput(
            f"train.weights: {given} knows {found.vocabulary:,} tokens, and the vocabulary has "
            f"{wanted.vocabulary:,}: name the one that it was trained with in train.vocabulary"
        )
    if found.tokenizer not in (None, wanted.tokenizer):
        raise BadInput(
            f"train.weights: {given} was trained with another vocabulary: name that one in "
            "train.vocabulary"
        )
    model.load_state_dict(found.state)


def _is_on(is_asked: bool, is_auto: bool, ranks: Ranks) -> bool:
    """Whether something is on that is on by itself for a GPU."""
    return is_asked or (is_auto and ranks.device.type == "cuda")
