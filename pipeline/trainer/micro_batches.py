"""Micro-batches: the gradient of a whole batch, a part of it in memory at a time.

Gao et al. 2021, arXiv 2101.06983 (GradCache). All parts are embedded without keeping what the
gradient needs; the loss of all embeddings gives the gradient of each; then each part is embedded
again and carries the gradients of its own embeddings on to the weights. The sum is the gradient
of the whole batch, since an embedding depends on its own image or text alone. That is not so in a
ResNet, where BatchNorm ties together what it sees (`check_batch_norm`); and both times a part must
be embedded alike, which holds because no model here draws random numbers.

In names of tensors: B pairs of this rank, L tokens, E embedding.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pipeline.errors import BadInput
from pipeline.trainer.loss import TILE, contrastive
from pipeline.trainer.parallel import ALONE, Ranks
from pipeline.trainer.recompute import batch_norms, unmoved
from pipeline.trainer.text_groups import groups_of, on


def check_batch_norm(model: nn.Module, rows: int, micro: int | None, *, is_allowed: bool) -> None:
    """Raise BadInput where micro-batches would make another function of `model`.

    `rows` are a GPU's pairs of a step, `micro` those that pass at a time; `is_allowed` is
    train.split_batch_norm.
    """
    is_split = micro is not None and micro < rows
    if is_split and not is_allowed and batch_norms(model):
        raise BadInput(
            f"train.micro_batch_size: BatchNorm would see {micro} pairs at a time and not {rows}, "
            "which trains another function: leave it out for a ResNet, take more GPUs or set "
            "train.gradient_checkpointing, or accept it with train.split_batch_norm"
        )


def backward(
    model: nn.Module,
    image: Tensor,
    tokens_BL: Tensor,
    lengths_B: npt.NDArray[np.int64],
    *,
    micro: int | None = None,
    tile: int = TILE,
    groups: int = 1,
    ranks: Ranks = ALONE,
    prepare: Callable[[Tensor], Tensor] = lambda image: image,
    sync: Callable[[bool], AbstractContextManager[Any]] = nullcontext,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Tensor:
    """Add the gradient of a step to that of the parameters of `model`, and return its loss.

    `prepare` makes what the model sees of some rows of `image`. `sync` is entered around each part
    with a gradient, and told whether it is the step's last: only then have gradients to be averaged
    over ranks. `autocast` is entered around each forward pass. With `micro` None, or no fewer
    than the batch has rows, all pass at once and once.
    """
    rows = len(tokens_BL)
    micro = min(micro or rows, rows)
    parts = [slice(start, start + micro) for start in range(0, rows, micro)]
    context, device = tokens_BL.shape[1], tokens_BL.device
    grouped = [on(groups_of(lengths_B[part], groups, context=context), device) for part in parts]

    def embedded(number: int) -> tuple[Tensor, Tensor, Tensor]:
        part = parts[number]
        with autocast():
            out: tuple[Tensor, Tensor, Tensor] = model(
                prepare(image[part]), tokens_BL[part], grouped[number]
            )
        return out

    if len(parts) == 1:
        with sync(True):
            loss = contrastive(*embedded(0), tile=tile, ranks=ranks)
            loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    # ---- the embeddings of all, and their gradients ----------------------------------------------
    # BatchNorm's running statistics move once for what it sees twice.
    with torch.no_grad(), unmoved(batch_norms(model)):
        seen = [embedded(number) for number in range(len(parts))]
    image_BE = torch.cat([image_E for image_E, _, _ in seen]).requires_grad_()
    text_BE = torch.cat([text_E for _, text_E, _ in seen]).requires_grad_()
    scale = seen[0][2].requires_grad_()
    del seen
    loss = contrastive(image_BE, text_BE, scale, tile=tile, ranks=ranks)
    d_image_BE, d_text_BE, d_scale = torch.autograd.grad(loss, [image_BE, text_BE, scale])
    # Older torch took weights that autocast had rounded without a gradient for ones with it
    # (pytorch/pytorch#158232), where a caller is inside of autocast for longer than a forward pass.
    torch.clear_autocast_cache()

    # ---- from the embeddings' gradients to the weights' ------------------------------------------
    for number, part in enumerate(parts):
        is_last = number == len(parts) - 1
        with sync(is_last):
            # The scale has no rows: its gradient is given once, and with it to all ranks.
            d_scale_now = d_scale if is_last else torch.zeros_like(d_scale)
            gradients = [d_image_BE[part], d_text_BE[part], d_scale_now]
            torch.autograd.backward(embedded(number), gradients)
    return loss.detach()
