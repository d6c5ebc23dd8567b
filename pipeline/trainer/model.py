"""CLIP: an image encoder and a text encoder that end in one space.

Parameters carry the names of OpenAI's released checkpoints. Shapes: B batch, C channels, H height,
W width, L tokens, D width, E embedding.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.trainer.architectures import Architecture, architecture
from pipeline.trainer.resnet import Bottleneck, ModifiedResNet
from pipeline.trainer.text_groups import Group
from pipeline.trainer.transformer import (
    Activation,
    LayerNorm,
    ResidualBlock,
    Transformer,
    at_work,
)
from pipeline.trainer.vit import VisionTransformer

MAX_LOGIT_SCALE = math.log(100)
"""CLIP, section 2.5: logits are never scaled by more than 100."""
_GRAPHS = 128
"""Of one kind of block: both encoders, every length of text for groups of two sizes, the last block
apart, for training and for evaluation. Dynamo's own limit is 8."""


class CLIP(nn.Module):
    """Both encoders. The last token of `vocabulary` ends a text; its place speaks for the text."""

    def __init__(
        self,
        arch: Architecture,
        vocabulary: int,
        *,
        activation: Activation = "quick_gelu",
        pool_last_block: bool = True,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        width = arch.text_width
        self.visual: VisionTransformer | ModifiedResNet
        if arch.patch is None:
            self.visual = ModifiedResNet(arch)
        else:
            self.visual = VisionTransformer(arch, arch.patch, activation)
        self.transformer = Transformer(
            width, arch.text_layers, is_causal=True, activation=activation
        )
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.positional_embedding = nn.Parameter(torch.randn(arch.context, width) * 0.01)
        self.ln_final = LayerNorm(width)
        self.text_projection = nn.Parameter(torch.randn(width, arch.embed) * width**-0.5)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        self.spare(pool_last_block=pool_last_block, gradient_checkpointing=gradient_checkpointing)

    def spare(self, *, pool_last_block: bool, gradient_checkpointing: bool) -> None:
        """Whether to compute less, and to keep less. Neither changes a result."""
        for part in self.modules():
            if isinstance(part, Transformer):
                part.pool_last_block = pool_last_block
            if isinstance(part, Transformer | ModifiedResNet):
                part.gradient_checkpointing = gradient_checkpointing

    def encode_image(self, image_BCHW: Tensor) -> Tensor:
        """BE, not normalised."""
        return self.visual(image_BCHW)  # type: ignore[no-any-return]

    def encode_text(self, tokens_BL: Tensor, groups: list[Group] | None = None) -> Tensor:
        """BE, not normalised. L may be anything up to the context: the attention is causal."""
        if groups is None:
            return self._encode_text(tokens_BL)
        order_B = torch.cat([group.rows for group in groups]).to(tokens_BL.device)
        parts = torch.split(tokens_BL[order_B], [len(group.rows) for group in groups])
        text_BE = torch.cat(
            [
                self._encode_text(part[:, : group.length])
                for part, group in zip(parts, groups, strict=True)
            ]
        )
        return torch.empty_like(text_BE).index_copy(0, order_B, text_BE)

    def _encode_text(self, tokens_BL: Tensor) -> Tensor:
        embedding_BLD = self.token_embedding(tokens_BL)
        positions_LD = self.positional_embedding[: tokens_BL.shape[1]]
        # The end has the highest number of all tokens, so argmax finds it.
        ends_B = tokens_BL.argmax(dim=-1)
        end_BD = self.transformer.pooled(at_work(embedding_BLD + positions_LD), ends_B)
        return self.ln_final(end_BD) @ self.text_projection  # type: ignore[no-any-return]

    def forward(
        self, image_BCHW: Tensor, tokens_BL: Tensor, groups: list[Group] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Both embeddings, and the logarithm of the scale: what DDP and FSDP2 wrap."""
        image_BE, text_BE = self.encode_image(image_BCHW), self.encode_text(tokens_BL, groups)
        # What a wrapper hands out is a result, and never the parameter itself.
        return image_BE, text_BE, self.logit_scale.clone()


def build(
    name: str,
    vocabulary: int,
    seed: int,
    *,
    activation: Activation = "quick_gelu",
    pool_last_block: bool = True,
    gradient_checkpointing: bool = False,
) -> CLIP:
    """The model called `name` with fresh weights, fixed by `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CLIP(
            architecture(name),
            vocabulary,
            activation=activation,
            pool_last_block=pool_last_block,
            gradient_checkpointing=gradient_checkpointing,
        )


def compile_blocks(
    model: CLIP,
    backend: str | Callable[..., Any] = "inductor",
    kinds: tuple[type[nn.Module], ...] = (ResidualBlock, Bottleneck),
) -> None:
    """Compile each of these kinds of blocks once for every shape, and not the whole model: blocks
    of a kind share their graphs, and what wraps one (FSDP2's hooks, recomputing) stays outside."""
    config = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, _GRAPHS)
    # Inside of DDP, dynamo cuts graphs where a bucket of gradients is full, so that they are sent
    # meanwhile. Between blocks they are already; a block that is cut has more and slower kernels.
    config.optimize_ddp = False
    for part in model.modules():
        if isinstance(part, kinds):
            # Shapes are few and known: kernels for any shape would be slower.
            compiled = torch.compile(part.forward, fullgraph=True, dynamic=False, backend=backend)
            part.forward = compiled
