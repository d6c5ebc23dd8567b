"""Tensors: a file's tensors by name, their shapes known before any of them is read."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pipeline.errors import BadInput

_MAX_JSON = 16 * 2**20


def shown(value: object, limit: int = 80) -> str:
    """A file's own word, fit for a terminal: one short line, no control characters."""
    plain = " ".join(str(value).split())[:limit]
    return "".join(letter if letter.isprintable() else "?" for letter in plain)


@dataclass(frozen=True)
class Tensors:
    """What lies in a file, or in several."""

    shapes: dict[str, tuple[int, ...]]
    load: Callable[[str], Tensor]

    def renamed(self, names: dict[str, str]) -> "Tensors":
        """The same tensors under the names that `names` gives; others are left out."""
        shapes = {new: self.shapes[old] for new, old in names.items()}
        return Tensors(shapes, lambda new: self.load(names[new]))

    def read(self, names: list[str], path: Path) -> dict[str, Tensor]:
        """These tensors: what are numbers, in float32. Raises BadInput for what is not finite."""
        out: dict[str, Tensor] = {}
        for name in names:
            value = self.load(name)
            if value.is_floating_point():
                # To copy is to let go of what was read beside it.
                value = value.to(torch.float32, copy=True).contiguous()
                if not bool(torch.isfinite(value).all()):
                    raise BadInput(f"{path}: `{shown(name)}` holds numbers that are not finite")
            out[name] = value.contiguous()
        return out


def of_safetensors(files: list[Path], stack: ExitStack) -> Tensors:
    """The tensors of these files, open as long as `stack` is. Raises BadInput."""
    shapes: dict[str, tuple[int, ...]] = {}
    where: dict[str, Any] = {}
    for file in files:
        try:
            opened = stack.enter_context(safe_open(file, "pt"))
            for name in opened.keys():  # noqa: SIM118 - it is no dictionary
                if name in shapes:
                    raise BadInput(f"{file}: `{shown(name)}` lies in another file too")
                shapes[name] = tuple(opened.get_slice(name).get_shape())
                where[name] = opened
        except (OSError, SafetensorError, ValueError) as error:
            raise BadInput(f"{file} cannot be read ({shown(error)}): fetch it again") from None
    return Tensors(shapes, lambda name: where[name].get_tensor(name))


def read_json(path: Path) -> dict[str, Any]:
    """What a JSON file holds, which must be an object. Raises BadInput."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_JSON + 1)
        told = json.loads(data) if len(data) <= _MAX_JSON else None
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{path} cannot be read ({error})") from None
    if not isinstance(told, dict):
        raise BadInput(f"{path} is no JSON object of at most {_MAX_JSON:,} bytes")
    return told
