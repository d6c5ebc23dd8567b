"""Weights: models of OpenAI, open_clip, Hugging Face and ours, from their files, none of them run.

Told by what there is: a folder with state.json is a checkpoint of ours, with open_clip_config.json
one of open_clip's, with config.json one of Hugging Face's; a file is safetensors or a zip of
torch's.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pipeline.errors import BadInput
from pipeline.trainer import checkpoint
from pipeline.trainer.architectures import architecture
from pipeline.trainer.model import CLIP
from pipeline.trainer.transformer import Activation
from pipeline.trainer.weights import hugging_face, open_clip, sizes
from pipeline.trainer.weights.tensors import Tensors

_COUNTER = ".num_batches_tracked"


@dataclass(frozen=True)
class Weights:
    """A model's weights, and what is needed to use them."""

    model: str
    """An architecture's name."""
    vocabulary: int
    context: int
    activation: Activation
    state: dict[str, Tensor]
    """In OpenAI's names, in float32."""
    tokenizer: str | None = None
    """Digest of the merges that its texts were cut with, where that is known."""
    origin: str = ""
    """Whose files they were."""
    trained: checkpoint.State | None = None
    """What their checkpoint says of itself, where it is one of ours."""


def read(path: Path | str, *, activation: Activation | None = None) -> Weights:
    """The weights at `path`. `activation` is for files that do not tell it.

    Raises BadInput for what is no CLIP of the table's sizes, or not whole.
    """
    path = Path(path)
    if path.is_file() and _is_in_folder(path):
        path = path.parent
    if not path.exists():
        raise BadInput(f"{path} does not exist: name a file of weights, or a folder with one")
    with ExitStack() as stack:
        if not path.is_dir():
            return _of_open_clip(path, activation, stack)
        if (path / "state.json").exists():
            return _of_checkpoint(path)
        if (path / open_clip.CONFIG).exists():
            return _of_open_clip(open_clip.file_in(path), activation, stack)
        if (path / hugging_face.CONFIG).exists():
            return _of_hugging_face(path, stack)
    raise BadInput(
        f"{path} is no folder of weights: a checkpoint has state.json, open_clip's has "
        f"{open_clip.CONFIG} and Hugging Face's has {hugging_face.CONFIG}"
    )


def load_model(path: Path | str, *, activation: Activation | None = None) -> tuple[CLIP, Weights]:
    """The model with the weights at `path`, on the CPU."""
    weights = read(path, activation=activation)
    with torch.device("meta"):
        arch = architecture(weights.model)
        model = CLIP(arch, weights.vocabulary, activation=weights.activation)
    model.load_state_dict(weights.state, assign=True)
    return model, weights


def _is_in_folder(file: Path) -> bool:
    """Whether a file of weights is told of by a config of another maker beside it."""
    told = {"state.json", hugging_face.CONFIG}
    is_theirs = not (file.parent / open_clip.CONFIG).exists() and file.name == "model.safetensors"
    return is_theirs and any((file.parent / name).exists() for name in told)


def _of_checkpoint(path: Path) -> Weights:
    model, state = checkpoint.load_model(path)
    context = architecture(state.model).context
    tensors = dict(model.state_dict())
    return Weights(
        state.model,
        state.vocabulary,
        context,
        state.activation,
        tensors,
        state.tokenizer,
        origin="ours",
        trained=state,
    )


def _of_open_clip(path: Path, asked: Activation | None, stack: ExitStack) -> Weights:
    tensors, is_script = open_clip.opened(path, stack)
    name = sizes.architecture_of(tensors.shapes, path)
    arch = architecture(name)
    if is_script:
        if asked == "gelu":
            raise BadInput(
                f"{path} is one of OpenAI's scripts, all of them trained with quick_gelu"
            )
        activation: Activation = "quick_gelu"
    else:
        activation = open_clip.activation_of(path, arch, asked)
    state = _read(path, tensors, name)
    vocabulary = len(state["token_embedding.weight"])
    origin = "OpenAI" if is_script else "open_clip"
    return Weights(name, vocabulary, arch.context, activation, state, origin=origin)


def _of_hugging_face(path: Path, stack: ExitStack) -> Weights:
    tensors = hugging_face.opened(path, stack)
    shapes = hugging_face.shapes(tensors, path)
    name = sizes.architecture_of(shapes, path)
    arch, (vocabulary, _) = architecture(name), shapes["token_embedding.weight"]
    due = sizes.wanted(arch, vocabulary)
    sizes.compare(shapes, due, path, name)
    activation = hugging_face.activation_of(path, arch, vocabulary)
    theirs = tensors.read([n for n in tensors.shapes if n not in hugging_face.UNREAD], path)
    state = hugging_face.to_ours(theirs, list(due))
    return Weights(name, vocabulary, arch.context, activation, state, origin="Hugging Face")


def _read(path: Path, tensors: Tensors, name: str) -> dict[str, Tensor]:
    """The state in OpenAI's names, all shapes compared before the first tensor is read."""
    arch, (vocabulary, _) = architecture(name), tensors.shapes["token_embedding.weight"]
    due = sizes.wanted(arch, vocabulary)
    # How many batches a BatchNorm has seen has no part in what it computes.
    silent = {n for n in due if n.endswith(_COUNTER) and n not in tensors.shapes}
    sizes.compare(tensors.shapes, {n: s for n, s in due.items() if n not in silent}, path, name)
    state = tensors.read([n for n in due if n not in silent], path)
    return state | {n: torch.tensor(0) for n in silent}
