"""Loss: each image must know its caption among the batch's, and each caption its image.

The matrix of logits, N x N of a batch of N pairs, is never whole in memory: it is made tile by
tile, once for the sums of each row and column and once for the gradients, which are found by hand.
With several ranks each makes the rows of its own images and the columns of its own texts.

In names of tensors: B pairs of this rank, N pairs of all ranks, E embedding.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.errors import BadInput
from pipeline.trainer.parallel import ALONE, Ranks

TILE = 4096
"""Rows and columns of logits that are in memory at a time."""


def contrastive(
    image_BE: Tensor,
    text_BE: Tensor,
    logit_scale: Tensor,
    *,
    tile: int = TILE,
    ranks: Ranks | None = None,
    half: bool | None = None,
) -> Tensor:
    """The symmetric cross entropy of CLIP, figure 3, over the pairs of all ranks.

    `logit_scale` is the logarithm of the scale. The value is the same on every rank; gradients are
    those of a rank's own features, times the number of ranks, so that the mean over ranks, which
    DDP and FSDP2 take, is the gradient of the whole batch.

    Features are normalised, and logits summed, in fp32 (fp64 for fp64). With `half` they are
    rounded to bf16 between the two, for the GPU's fast matrix products; when not given, that is
    done on a GPU with features that come in bf16. From logits that are bf16 themselves the gradient
    would err several times as much.
    """
    ranks = ranks or ALONE
    if image_BE.shape != text_BE.shape:
        raise ValueError(f"images {tuple(image_BE.shape)} and texts {tuple(text_BE.shape)}")
    _check_rows(len(image_BE), image_BE.device, ranks)
    if half is None:
        half = image_BE.is_cuda and image_BE.dtype == torch.bfloat16
    with torch.autocast(image_BE.device.type, enabled=False):
        image_BE = F.normalize(_full(image_BE), dim=-1)
        text_BE = F.normalize(_full(text_BE), dim=-1)
        # The scale rides on the images: a pass over N x E, not over N x N.
        scaled_BE = image_BE * _full(logit_scale).exp()
        factor = torch.bfloat16 if half else scaled_BE.dtype
        is_learning = scaled_BE.requires_grad or text_BE.requires_grad
        if not (is_learning and torch.is_grad_enabled()):
            return _Tiles(scaled_BE, text_BE, factor, tile, ranks).loss()
        given = scaled_BE, text_BE, factor, tile, ranks
        return _Contrastive.apply(*given)  # type: ignore[no-any-return, no-untyped-call]


def _full(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _check_rows(rows: int, device: torch.device, ranks: Ranks) -> None:
    """Raise BadInput, on all ranks, where they do not have equally many rows."""
    # On a GPU a look at the answer would wait for the device at every step. Batches sees to it that
    # ranks have equally many.
    if ranks.count == 1 or device.type == "cuda":
        return
    told = ranks.gather(torch.tensor([rows], device=device)).tolist()
    if len(set(told)) > 1:
        raise BadInput(
            f"the ranks have {', '.join(map(str, told))} pairs, but the loss needs equally many: "
            "choose a train.batch_size that the number of GPUs divides"
        )


class _Contrastive(torch.autograd.Function):
    """The loss, with gradients by hand.

    They are made with the loss, of whose gradient they are a multiple: so they alone, and neither
    logits nor the features of others, wait for the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any, scaled_BE: Tensor, text_BE: Tensor, factor: torch.dtype, tile: int, ranks: Ranks
    ) -> Tensor:
        tiles = _Tiles(scaled_BE, text_BE, factor, tile, ranks)
        loss = tiles.loss()
        ctx.save_for_backward(*tiles.gradients())
        ctx.share = ranks.count / (2 * tiles.total)
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        d_scaled_BE, d_text_BE = ctx.saved_tensors
        share = grads[0] * ctx.share
        return d_scaled_BE * share, d_text_BE * share, None, None, None


class _Tile(NamedTuple):
    """A part of the logits."""

    rows: slice
    columns: slice
    own_rows: bool
    """Whether its images are of this rank."""
    own_columns: bool
    """Whether its texts are."""

    @property
    def has_pairs(self) -> bool:
        """Whether its diagonal is that of all logits. Both sides are cut alike: all or nothing."""
        return self.rows == self.columns


class _Tiles:
    """The logits of a batch, image by text, as far as they are this rank's."""

    def __init__(
        self, scaled_BE: Tensor, text_BE: Tensor, factor: torch.dtype, tile: int, ranks: Ranks
    ) -> None:
        self.ranks, self.exact = ranks, scaled_BE.dtype
        self.image_NE = ranks.gather(scaled_BE.to(factor))
        self.text_NE = ranks.gather(text_BE.to(factor))
        rows, self.total = len(scaled_BE), len(self.image_NE)
        self.own = slice(ranks.rank * rows, (ranks.rank + 1) * rows)
        cuts = list(_cuts(self.total, self.own, tile))
        self.tiles = [
            _Tile(rows, columns, own_rows, own_columns)
            for rows, own_rows in cuts
            for columns, own_columns in cuts
            if own_rows or own_columns
        ]
        # Two tiles are all the room there is: fresh memory costs a CPU as much as the exponentials.
        room = min(tile, self.total) ** 2
        self.room, self.spare = (scaled_BE.new_empty(room) for _ in range(2))
        self.held: _Tile | None = None

    def loss(self) -> Tensor:
        # Sums of exponentials are kept as their logarithms: scaled by 100 they are too large.
        per_row_N = self.room.new_full((self.total,), -torch.inf)
        per_column_N, own_N = per_row_N.clone(), per_row_N.clone()
        for tile in self.tiles:
            logits, spare = self._logits(tile)
            if tile.own_rows:
                _add_exponentials(per_row_N[tile.rows], logits, 1, spare)
            if tile.own_columns:
                _add_exponentials(per_column_N[tile.columns], logits, 0, spare)
            if tile.has_pairs:
                own_N[tile.rows] = logits.diagonal()
        found_B3 = torch.stack([per_row_N, per_column_N, own_N], dim=1)[self.own]
        self.per_row_N, self.per_column_N, own_N = self.ranks.gather(found_B3).unbind(dim=1)
        return (self.per_row_N + self.per_column_N - 2 * own_N).mean() / 2

    def gradients(self) -> tuple[Tensor, Tensor]:
        """Of 2N losses, by this rank's scaled images and by its texts. `loss` comes first.

        By a logit: its share of its row and that of its column, less 2 for a pair's own.
        """
        d_image_BE, d_text_BE = (
            torch.zeros_like(features_NE, dtype=self.exact)
            for features_NE in (self.image_NE[self.own], self.text_NE[self.own])
        )
        first = self.own.start
        for tile in self.tiles:
            logits, d_logits = self._logits(tile)
            torch.sub(logits, self.per_row_N[tile.rows, None], out=d_logits).exp_()
            d_logits += logits.sub_(self.per_column_N[tile.columns]).exp_()
            self.held = None
            if tile.has_pairs:
                # Before any rounding to bf16: of a pair that is known well, little is left.
                d_logits.diagonal().sub_(2)
            d_logits = d_logits.to(self.image_NE.dtype)
            if tile.own_rows:
                into = d_image_BE[tile.rows.start - first : tile.rows.stop - first]
                _add_product(into, d_logits, self.text_NE[tile.columns])
            if tile.own_columns:
                into = d_text_BE[tile.columns.start - first : tile.columns.stop - first]
                _add_product(into, d_logits.T, self.image_NE[tile.rows])
        return d_image_BE, d_text_BE

    def _logits(self, tile: _Tile) -> tuple[Tensor, Tensor]:
        """Those of `tile`, and a spare room of their shape; both are overwritten by the next."""
        image_E, text_E = self.image_NE[tile.rows], self.text_NE[tile.columns]
        shape = len(image_E), len(text_E)
        logits, spare = (
            room[: shape[0] * shape[1]].view(shape) for room in (self.room, self.spare)
        )
        # A single tile is still there when its gradients are asked for.
        if self.held != tile:
            _add_product(logits, image_E, text_E.T, keep=0)
            self.held = tile
        return logits, spare


def _cuts(total: int, own: slice, tile: int) -> Iterator[tuple[slice, bool]]:
    """0 to `total` in slices of at most `tile`, and whether each lies in `own`: all or nothing."""
    before, after = (0, own.start, False), (own.stop, total, False)
    for first, last, is_own in (before, (own.start, own.stop, True), after):
        for start in range(first, last, tile):
            yield slice(start, min(start + tile, last)), is_own


def _add_exponentials(sums: Tensor, logits: Tensor, dim: int, spare: Tensor) -> None:
    """Add e to the power of `logits`, summed over `dim`, to `sums`, which are logarithms."""
    most = logits.amax(dim, keepdim=True)
    more = torch.sub(logits, most, out=spare).exp_().sum(dim).log_().add_(most.squeeze(dim))
    torch.logaddexp(sums, more, out=sums)


def _add_product(into: Tensor, a: Tensor, b: Tensor, keep: int = 1) -> None:
    """into = keep * into + a @ b; of bf16, exact products summed in fp32."""
    if a.dtype == torch.bfloat16 and a.is_cuda:
        product = torch.mm(a, b, out_dtype=torch.float32)
        into.copy_(product) if keep == 0 else into.add_(product)
    else:
        into.addmm_(a.to(into.dtype), b.to(into.dtype), beta=keep)
