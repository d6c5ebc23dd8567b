"""CLIP: an image encoder and a text encoder that end in one space.

Parameters carry the names of OpenAI's released checkpoints. Shapes: B batch, C channels, H height,
W width, P positions (patches, and one for the whole), L tokens, D width, E embedding.
"""

import math
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.trainer.architectures import Architecture, architecture

MAX_LOGIT_SCALE = math.log(100)
"""CLIP, section 2.5: logits are never scaled by more than 100."""


class QuickGELU(nn.Module):
    """The cheaper GELU that the released ViTs were trained with."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


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


class ResidualBlock(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = Attention(width, heads)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            OrderedDict(
                c_fc=nn.Linear(width, 4 * width),
                gelu=QuickGELU(),
                c_proj=nn.Linear(4 * width, width),
            )
        )
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, x_BPD: Tensor, *, is_causal: bool) -> Tensor:
        x_BPD = x_BPD + self.attn(self.ln_1(x_BPD), is_causal=is_causal)
        return x_BPD + self.mlp(self.ln_2(x_BPD))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """Blocks, one after the other; each head is 64 wide."""

    def __init__(self, width: int, layers: int, *, is_causal: bool) -> None:
        super().__init__()
        self.is_causal = is_causal
        self.resblocks = nn.ModuleList(ResidualBlock(width, width // 64) for _ in range(layers))
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
        for block in self.resblocks:
            x_BPD = block(x_BPD, is_causal=self.is_causal)
        return x_BPD


class VisionTransformer(nn.Module):
    """A ViT that reads its image off a class position."""

    def __init__(self, arch: Architecture, patch: int) -> None:
        super().__init__()
        width, scale = arch.width, arch.width**-0.5
        positions = (arch.resolution // patch) ** 2 + 1
        self.conv1 = nn.Conv2d(3, width, kernel_size=patch, stride=patch, bias=False)
        self.class_embedding = nn.Parameter(scale * torch.randn(width))
        self.positional_embedding = nn.Parameter(scale * torch.randn(positions, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(width, arch.layers[0], is_causal=False)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(scale * torch.randn(width, arch.embed))

    def features(self, image_BCHW: Tensor) -> Tensor:
        """BD: what the class position holds before it is projected."""
        x_BPD = self.conv1(image_BCHW).flatten(2).transpose(1, 2)
        class_B1D = self.class_embedding.to(x_BPD.dtype).expand(len(x_BPD), 1, -1)
        x_BPD = torch.cat([class_B1D, x_BPD], dim=1) + self.positional_embedding
        x_BPD = self.transformer(self.ln_pre(x_BPD))
        return self.ln_post(x_BPD[:, 0])  # type: ignore[no-any-return]

    def forward(self, image_BCHW: Tensor) -> Tensor:
        return self.features(image_BCHW) @ self.proj


class Bottleneck(nn.Module):
    """A ResNet block whose strides are average pools, so that it does not alias."""

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * planes
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.avgpool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module | None = None
        if stride > 1 or inputs != outputs:
            pool, conv = nn.AvgPool2d(stride), nn.Conv2d(inputs, outputs, 1, bias=False)
            steps = {"-1": pool, "0": conv, "1": nn.BatchNorm2d(outputs)}
            self.downsample = nn.Sequential(OrderedDict(steps))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(self.avgpool(y)))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class AttentionPool(nn.Module):
    """One layer of attention from the mean of all places to the places."""

    def __init__(self, side: int, width: int, heads: int, outputs: int) -> None:
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(torch.randn(side**2 + 1, width) * width**-0.5)
        self.k_proj, self.q_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.c_proj = nn.Linear(width, width), nn.Linear(width, outputs)
        for projection in (self.k_proj, self.q_proj, self.v_proj, self.c_proj):
            nn.init.normal_(projection.weight, std=width**-0.5)

    def forward(self, x_BDHW: Tensor) -> Tensor:
        x_BPD = x_BDHW.flatten(2).transpose(1, 2)
        x_BPD = torch.cat([x_BPD.mean(dim=1, keepdim=True), x_BPD], dim=1)
        x_BPD = x_BPD + self.positional_embedding
        q, k, v = self.q_proj(x_BPD[:, :1]), self.k_proj(x_BPD), self.v_proj(x_BPD)
        q, k, v = (t.unflatten(2, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        pooled_B1D = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.c_proj(pooled_B1D[:, 0])  # type: ignore[no-any-return]


class ModifiedResNet(nn.Module):
    """A ResNet with three stem convolutions, anti-aliased strides and an attention pool."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        width = arch.width
        self.conv1 = nn.Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width // 2)
        self.conv2 = nn.Conv2d(width // 2, width // 2, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width // 2)
        self.conv3 = nn.Conv2d(width // 2, width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.avgpool = nn.AvgPool2d(2)
        self.inputs = width
        self.layer1 = self._stage(width, arch.layers[0], stride=1)
        self.layer2 = self._stage(2 * width, arch.layers[1], stride=2)
        self.layer3 = self._stage(4 * width, arch.layers[2], stride=2)
        self.layer4 = self._stage(8 * width, arch.layers[3], stride=2)
        deepest = 32 * width
        self.attnpool = AttentionPool(arch.resolution // 32, deepest, deepest // 64, arch.embed)
        for name, parameter in self.named_parameters():
            # Each block begins as the identity.
            if name.startswith("layer") and name.endswith("bn3.weight"):
                nn.init.zeros_(parameter)

    def _stage(self, planes: int, blocks: int, stride: int) -> nn.Sequential:
        first = Bottleneck(self.inputs, planes, stride)
        self.inputs = 4 * planes
        return nn.Sequential(
            first, *(Bottleneck(self.inputs, planes, 1) for _ in range(blocks - 1))
        )

    def features(self, image_BCHW: Tensor) -> Tensor:
        """BE: a ResNet's projection is part of its pool, so its features are its embedding."""
        return self(image_BCHW)  # type: ignore[no-any-return]

    def forward(self, image_BCHW: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(image_BCHW)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = self.avgpool(F.relu(self.bn3(self.conv3(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.attnpool(x)  # type: ignore[no-any-return]


class CLIP(nn.Module):
    """Both encoders. The last token of `vocabulary` ends a text; its place speaks for the text."""

    def __init__(self, arch: Architecture, vocabulary: int) -> None:
        super().__init__()
        width = arch.text_width
        self.visual: VisionTransformer | ModifiedResNet
        if arch.patch is None:
            self.visual = ModifiedResNet(arch)
        else:
            self.visual = VisionTransformer(arch, arch.patch)
        self.transformer = Transformer(width, arch.text_layers, is_causal=True)
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.positional_embedding = nn.Parameter(torch.randn(arch.context, width) * 0.01)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.randn(width, arch.embed) * width**-0.5)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def encode_image(self, image_BCHW: Tensor) -> Tensor:
        """BE, not normalised."""
        return self.visual(image_BCHW)  # type: ignore[no-any-return]

    def encode_text(self, tokens_BL: Tensor) -> Tensor:
        """BE, not normalised. L may be anything up to the context: the attention is causal."""
        positions = self.positional_embedding[: tokens_BL.shape[1]]
        x_BLD = self.transformer(self.token_embedding(tokens_BL) + positions)
        # The end has the highest number of all tokens, so argmax finds it.
        ends_B = tokens_BL.argmax(dim=-1)
        end_BD = self.ln_final(x_BLD[torch.arange(len(ends_B), device=ends_B.device), ends_B])
        return end_BD @ self.text_projection  # type: ignore[no-any-return]


def build(name: str, vocabulary: int, seed: int) -> CLIP:
    """The model called `name` with fresh weights, fixed by `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CLIP(architecture(name), vocabulary)
