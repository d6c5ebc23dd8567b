"""Text groups: texts of like length together, so that what is behind their ends is not computed.

Shapes: B batch.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


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

    Sizes differ by one at most and lengths are multiples of `step` (or the context), so that few
    shapes occur: torch.compile makes a graph of each.
    """
    order = np.argsort(lengths_B, kind="stable")
    found = []
    for rows in np.array_split(order, max(1, min(groups, len(order)))):
        longest = int(lengths_B[rows].max())
        found.append(Group(torch.from_numpy(rows), min(context, -(-longest // step) * step)))
    return found
