"""Recompute: keep only what goes into a block, and compute the rest again for the backward pass.

Chen et al. 2016, arXiv 1604.06174.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

_Block = Callable[..., Tensor]


def recomputed(block: _Block, norms: list[nn.Module], *given: Any, **named: Any) -> Tensor:
    """What `block` makes of what it is given. `norms` are the normalisations with statistics in it,
    which see the batch once."""
    if not torch.is_grad_enabled():
        return block(*given, **named)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), unmoved(norms)

    # There is no chance in a block, so that there is no state of it to keep.
    out: Tensor = checkpoint(
        block, *given, use_reentrant=False, preserve_rng_state=False, context_fn=contexts, **named
    )
    return out


def batch_norms(module: nn.Module) -> list[nn.Module]:
    """Those whose statistics move with every batch."""
    return [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]


@contextmanager
def unmoved(norms: list[nn.Module]) -> Iterator[None]:
    """Let `norms` move copies of their statistics, and forget the copies."""
    # To copy back into the same memory would tell autograd that what it has saved was overwritten.
    kept = [(norm, name, value) for norm in norms for name, value in norm.named_buffers()]
    for norm, name, value in kept:
        setattr(norm, name, value.clone())
    try:
        yield
    finally:
        for norm, name, value in kept:
            setattr(norm, name, value)
