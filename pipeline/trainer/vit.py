"""ViT: an image encoder that sees patches, and reads its image off a class position.

Shapes: B batch, C channels, H height, W width of an image, P positions (patches, and one for the
whole), D width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.trainer.architectures import Architecture
from pipeline.trainer.transformer import Activation, LayerNorm, Transformer, at_work

_CLASS = 0
"""The position that stands for the whole image."""


class VisionTransformer(nn.Module):
    """A ViT that reads its image off a class position."""

    def __init__(
        self, arch: Architecture, patch: int, activation: Activation = "quick_gelu"
    ) -> None:
        super().__init__()
        width, scale = arch.width, arch.width**-0.5
        positions = (arch.resolution // patch) ** 2 + 1
        # A convolution in name and shape alone: it is never called.
        self.conv1 = nn.Conv2d(3, width, kernel_size=patch, stride=patch, bias=False)
        self.class_embedding = nn.Parameter(scale * torch.randn(width))
        self.positional_embedding = nn.Parameter(scale * torch.randn(positions, width))
        self.ln_pre = LayerNorm(width)
        self.transformer = Transformer(
            width, arch.layers[0], is_causal=False, activation=activation
        )
        self.ln_post = LayerNorm(width)
        self.proj = nn.Parameter(scale * torch.randn(width, arch.embed))

    def patches(self, image_BCHW: Tensor) -> Tensor:
        """BPD: each patch times a matrix, without the class position."""
        image_BCHW = at_work(image_BCHW)
        batch, channels, height, width = image_BCHW.shape
        side: int = self.conv1.kernel_size[0]
        rows, columns = height // side, width // side
        # Channels innermost, as the pixels of an image lie in memory: whole rows of a patch move.
        tiles = image_BCHW[:, :, : rows * side, : columns * side].reshape(
            batch, channels, rows, side, columns, side
        )
        patches = tiles.permute(0, 2, 4, 3, 5, 1).reshape(batch, rows * columns, -1)
        return F.linear(patches, self.conv1.weight.permute(0, 2, 3, 1).flatten(1))

    def embedded(self, image_BCHW: Tensor) -> Tensor:
        """BPD: what goes into the first block."""
        x_BPD = self.patches(image_BCHW)
        class_B1D = self.class_embedding.to(x_BPD.dtype).expand(len(x_BPD), 1, -1)
        x_BPD = torch.cat([class_B1D, x_BPD], dim=1)
        return self.ln_pre(x_BPD + self.positional_embedding.to(x_BPD.dtype))  # type: ignore[no-any-return]

    def features(self, image_BCHW: Tensor) -> Tensor:
        """BD: what the class position holds before it is projected."""
        class_BD = self.transformer.pooled(self.embedded(image_BCHW), _CLASS)
        return self.ln_post(class_BD)  # type: ignore[no-any-return]

    def forward(self, image_BCHW: Tensor) -> Tensor:
        return self.features(image_BCHW) @ self.proj
