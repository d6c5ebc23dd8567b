"""RNG: the states of random numbers, as a checkpoint keeps them."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from pipeline.errors import BadInput

_KINDS = ("cpu", "cuda")


def begin(seed: int, rank: int = 0) -> None:
    """Random numbers that a training begins with: a process that is started again has the same."""
    torch.manual_seed(seed + rank)


def states(gather: Callable[[Tensor], Tensor] = lambda own: own) -> dict[str, Tensor]:
    """Those of every rank, by `rank/kind`; `gather` joins a tensor of each rank, on the CPU."""
    own = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        own["cuda"] = torch.cuda.get_rng_state()
    return {
        f"{rank}/{kind}": part
        for kind, state in own.items()
        for rank, part in enumerate(gather(state).view(-1, len(state)))
    }


def restore(kept: Mapping[str, Tensor], rank: int = 0) -> None:
    """Go on with the random numbers of `rank`; one that was not there keeps its own."""
    # Copies: torch 2.13 dies of a state that lies in the middle of another tensor's memory.
    own = {kind: kept[f"{rank}/{kind}"].clone() for kind in _KINDS if f"{rank}/{kind}" in kept}
    try:
        if "cpu" in own:
            torch.set_rng_state(own["cpu"])
        if "cuda" in own and torch.cuda.is_available():
            torch.cuda.set_rng_state(own["cuda"])
    except (RuntimeError, TypeError) as error:
        raise BadInput(
            f"the checkpoint's random numbers cannot be used ({error}): delete it to go on from "
            "the checkpoint before it"
        ) from None
