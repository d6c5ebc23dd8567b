"""Sizes: which architecture a set of shapes is, told from the shapes alone."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import BadInput
from pipeline.trainer.architectures import ARCHITECTURES, Architecture
from pipeline.trainer.model import CLIP
from pipeline.trainer.weights.tensors import shown

Shapes = Mapping[str, tuple[int, ...]]

_FIELDS = (
    *("embed", "resolution", "layers", "width", "patch"),
    *("text_width", "text_layers", "context"),
)
"""Of an Architecture, what shapes tell."""
_MAX_SIDE = 2**24


def architecture_of(shapes: Shapes, path: Path) -> str:
    """The name of the architecture with these shapes, in OpenAI's names.

    Raises BadInput, saying what differs, when the table has none.
    """
    found = _sizes(shapes, path)
    differences = {
        name: [f for f in _FIELDS if getattr(arch, f) != found[f]]
        for name, arch in ARCHITECTURES.items()
    }
    nearest = min(differences, key=lambda name: len(differences[name]))
    if differences[nearest]:
        arch = ARCHITECTURES[nearest]
        told = [f"{f} is {found[f]}, not {getattr(arch, f)}" for f in differences[nearest]]
        raise BadInput(
            f"{path} holds a CLIP of none of our sizes: of {nearest}, the nearest, "
            f"{', '.join(told)}. Known are {', '.join(ARCHITECTURES)}"
        )
    return nearest


def wanted(arch: Architecture, vocabulary: int) -> dict[str, tuple[int, ...]]:
    """The shapes of every tensor of a model."""
    with torch.device("meta"):
        state = CLIP(arch, vocabulary).state_dict()
    return {name: tuple(value.shape) for name, value in state.items()}


def compare(found: Shapes, due: Shapes, path: Path, model: str) -> None:
    """Raise BadInput, naming the first difference, unless both hold the same shapes."""
    odd = [(name, "is missing") for name in due if name not in found]
    odd += [(name, "is none of its weights") for name in found if name not in due]
    odd += [
        (name, f"is {'x'.join(map(str, found[name]))}, not {'x'.join(map(str, due[name]))}")
        for name in due
        if name in found and found[name] != due[name]
    ]
    if odd:
        name, why = odd[0]
        raise BadInput(
            f"{path} does not hold the weights of {model}: `{shown(name)}` {why}"
            + (f", and {len(odd) - 1} more differ" if odd[1:] else "")
        )


def _sizes(shapes: Shapes, path: Path) -> dict[str, Any]:
    try:
        found = _vit(shapes) if "visual.proj" in shapes else _resnet(shapes)
        found["text_width"], found["embed"] = shapes["text_projection"]
        found["context"], _ = shapes["positional_embedding"]
        vocabulary, _ = shapes["token_embedding.weight"]
    except KeyError as error:
        raise BadInput(f"{path} holds no CLIP: it has no tensor {error}") from None
    except (ValueError, IndexError, ZeroDivisionError):
        raise BadInput(f"{path} holds no CLIP: its tensors have other sides") from None
    found["text_layers"] = _blocks(shapes, r"transformer\.resblocks\.(\d+)\.ln_1\.weight")
    if not 0 < vocabulary < _MAX_SIDE:
        raise BadInput(f"{path} has a vocabulary of {vocabulary:,}")
    return found


def _vit(shapes: Shapes) -> dict[str, Any]:
    width, _, patch, _ = shapes["visual.conv1.weight"]
    positions, _ = shapes["visual.positional_embedding"]
    blocks = _blocks(shapes, r"visual\.transformer\.resblocks\.(\d+)\.ln_1\.weight")
    side = round((positions - 1) ** 0.5)
    return {"width": width, "patch": patch, "layers": (blocks,), "resolution": patch * side}


def _resnet(shapes: Shapes) -> dict[str, Any]:
    width = shapes["visual.layer1.0.conv1.weight"][0]
    positions, _ = shapes["visual.attnpool.positional_embedding"]
    stages = range(1, 5)
    layers = tuple(_blocks(shapes, rf"visual\.layer{n}\.(\d+)\.conv1\.weight") for n in stages)
    side = round((positions - 1) ** 0.5)
    return {"width": width, "patch": None, "layers": layers, "resolution": 32 * side}


def _blocks(shapes: Shapes, pattern: str) -> int:
    return len({found[1] for name in shapes if (found := re.fullmatch(pattern, name))})
