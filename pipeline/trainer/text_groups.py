"""Text groups: texts of like length together, so that what is behind their ends is not computed.

Shapes: B batch.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

LEAST_ROWS = 8
"""A group adds to the gradient of every weight: of fewer texts that costs more than it saves."""


class Group(NamedTuple):
    """Texts that are computed together."""

    rows: Tensor
    """int64: which of the batch they are."""
    length: int
    """Tokens of each that are computed; none of them has more."""


def groups_of(
    lengths_B: npt.NDArray[np.int64], groups: int, step: int = 8, context: int = 77
) -> list[Group]:
    """The batch in `groups` groups, by the lengths of its texts up to and with their ends.

    There are fewer groups where they would have less than LEAST_ROWS. Sizes differ by one at most
    and lengths are multiples of `step` (or the context), so that few shapes occur: torch.compile
    makes a graph of each.
    """
    order = np.argsort(lengths_B, kind="stable")
    found = []
    for rows in np.array_split(order, max(1, min(groups, len(order) // LEAST_ROWS))):
        longest = int(lengths_B[rows].max())
        found.append(Group(torch.from_numpy(rows), min(context, -(-longest // step) * step)))
    return found


def on(groups: list[Group], device: torch.device) -> list[Group]:
    """`groups` with their rows on `device`, by one copy that does not wait for its work."""
    if device.type != "cuda":
        return groups
    # A copy from memory that is not pinned would wait until the GPU has done all that it was told,
    # and so would one for each group, which DDP and FSDP2 make of what lies on the CPU.
    order_B = torch.cat([group.rows for group in groups]).pin_memory()
    order_B = order_B.to(device, non_blocking=True)
    parts = torch.split(order_B, [len(group.rows) for group in groups])
    return [group._replace(rows=rows) for group, rows in zip(groups, parts, strict=True)]
