"""Transformer: the blocks of the text encoder and of a ViT.

Parameters carry the names of OpenAI's released checkpoints. Shapes: B batch, P positions, D width.
"""

from collections import OrderedDict
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.trainer.recompute import recomputed

Activation = Literal["quick_gelu", "gelu"]
"""The released weights were trained with the quick one; many of others with the exact one. With the
wrong one a model still runs, and is worse."""
Place = Tensor | int
"""Which position of each row is read: B of them, or the same one of all."""


def at_work(x: Tensor) -> Tensor:
    """`x` in the precision that autocast computes in; as it is without autocast."""
    kind = x.device.type
    is_on = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return x.to(torch.get_autocast_dtype(kind)) if is_on else x


def picked(x_BPD: Tensor, place: Place) -> Tensor:
    """B1D: the position of each row that is read."""
    if isinstance(place, int):
        return x_BPD[:, place : place + 1]
    return x_BPD[torch.arange(len(x_BPD), device=x_BPD.device), place].unsqueeze(1)


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x), the cheaper GELU that the released models were trained with."""

    def forward(self, x: Tensor) -> Tensor:
        # The same function; of this form one tensor is kept for the backward pass and not two.
        return F.silu(1.702 * x) / 1.702


class LayerNorm(nn.LayerNorm):
    """Normalises in fp32 under autocast, and gives back the precision that it was given."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).to(x.dtype)


class Attention(nn.Module):
    """Self-attention with the parameter names of nn.MultiheadAttention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x_BPD: Tensor, *, is_causal: bool) -> Tensor:
        batch, positions, width = x_BPD.shape
        qkv = F.linear(x_BPD, self.in_proj_weight, self.in_proj_bias)
        q, k, v = qkv.view(batch, positions, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=is_causal)
        mixed_BPD = mixed.transpose(1, 2).reshape(batch, positions, width)
        return self.out_proj(mixed_BPD)  # type: ignore[no-any-return]

    def pooled(self, x_BPD: Tensor, place: Place, *, is_causal: bool) -> Tensor:
        """B1D: the output at one position of each row. Only that position asks; all answer."""
        batch, positions, width = x_BPD.shape
        weight, bias = self.in_proj_weight, self.in_proj_bias
        q = F.linear(picked(x_BPD, place), weight[:width], bias[:width])
        q = q.view(batch, 1, self.heads, -1).transpose(1, 2)
        kv = F.linear(x_BPD, weight[width:], bias[width:])
        k, v = kv.view(batch, positions, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        sees = None
        if is_causal:
            last = place if isinstance(place, int) else place.view(-1, 1, 1, 1)
            sees = torch.arange(positions, device=x_BPD.device).expand(batch, 1, 1, -1) <= last
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=sees)
        return self.out_proj(mixed.transpose(1, 2).reshape(batch, 1, width))  # type: ignore[no-any-return]


class ResidualBlock(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int, activation: Activation) -> None:
        super().__init__()
        self.attn = Attention(width, heads)
        self.ln_1 = LayerNorm(width)
        self.mlp = nn.Sequential(
            OrderedDict(
                c_fc=nn.Linear(width, 4 * width),
                gelu=QuickGELU() if activation == "quick_gelu" else nn.GELU(),
                c_proj=nn.Linear(4 * width, width),
            )
        )
        self.ln_2 = LayerNorm(width)

    def forward(self, x_BPD: Tensor, *, is_causal: bool, place: Place | None = None) -> Tensor:
        """BPD, or B1D of the one position that is asked for."""
        normed_BPD = self.ln_1(x_BPD)
        if place is None:
            x = x_BPD + self.attn(normed_BPD, is_causal=is_causal)
        else:
            x = picked(x_BPD, place) + self.attn.pooled(normed_BPD, place, is_causal=is_causal)
        return x + self.mlp(self.ln_2(x))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """Blocks, one after the other; each head is 64 wide."""

    pool_last_block = True
    """Compute in the last block only the position that is read. The result is the same."""
    gradient_checkpointing = False

    def __init__(
        self, width: int, layers: int, *, is_causal: bool, activation: Activation = "quick_gelu"
    ) -> None:
        super().__init__()
        self.is_causal = is_causal
        self.resblocks = nn.ModuleList(
            ResidualBlock(width, width // 64, activation) for _ in range(layers)
        )
        stds = {
            "in_proj_weight": width**-0.5,
            "c_fc.weight": (2 * width) ** -0.5,
            "out_proj.weight": (2 * width * layers) ** -0.5,
            "c_proj.weight": (2 * width * layers) ** -0.5,
        }
        for name, parameter in self.named_parameters():
            for ending, std in stds.items():
                if name.endswith(ending):
                    nn.init.normal_(parameter, std=std)

    def forward(self, x_BPD: Tensor) -> Tensor:
        """BPD."""
        for block in self.resblocks:
            x_BPD = self._through(block, x_BPD)
        return x_BPD

    def pooled(self, x_BPD: Tensor, place: Place) -> Tensor:
        """BD: what one position of each row holds behind the last block."""
        *blocks, last = self.resblocks
        for block in blocks:
            x_BPD = self._through(block, x_BPD)
        if self.pool_last_block:
            return self._through(last, x_BPD, place).squeeze(1)
        return picked(self._through(last, x_BPD), place).squeeze(1)

    def _through(self, block: nn.Module, x_BPD: Tensor, place: Place | None = None) -> Tensor:
        # Blocks are called, not their methods: DDP, FSDP2 and torch.compile take hold there.
        if self.gradient_checkpointing:
            return recomputed(block, [], x_BPD, is_causal=self.is_causal, place=place)
        return block(x_BPD, is_causal=self.is_causal, place=place)  # type: ignore[no-any-return]
