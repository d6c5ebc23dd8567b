"""Parallel: the processes that train one model together, each with a device of its own."""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together."""

    rank: int
    count: int
    local: int
    """Its number on this machine."""
    device: torch.device

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def gather(self, tensor: Tensor) -> Tensor:
        """`tensor` of every rank, one behind the other in their order; it carries no gradient.

        All ranks must call it, with equal shapes.
        """
        tensor = tensor.detach()
        if self.count == 1:
            return tensor
        gathered = tensor.new_empty((self.count, *tensor.shape))
        dist.all_gather(list(gathered), tensor.contiguous())
        return gathered.flatten(0, 1)


ALONE = Ranks(rank=0, count=1, local=0, device=torch.device("cpu"))
"""One process, on the CPU."""
