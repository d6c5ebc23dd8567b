"""ResNet: an image encoder of convolutions, with OpenAI's changes to the usual one.

Shapes: B batch, C channels, H height, W width, P positions (places of the last map, and their
mean), D width, E embedding.
"""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.trainer.architectures import Architecture
from pipeline.trainer.recompute import batch_norms, recomputed


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
        x_BPD = x_BPD + self.positional_embedding.to(x_BPD.dtype)
        q, k, v = self.q_proj(x_BPD[:, :1]), self.k_proj(x_BPD), self.v_proj(x_BPD)
        q, k, v = (t.unflatten(2, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        pooled_B1D = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.c_proj(pooled_B1D[:, 0])  # type: ignore[no-any-return]


class ModifiedResNet(nn.Module):
    """A ResNet with three stem convolutions, anti-aliased strides and an attention pool."""

    gradient_checkpointing = False

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

    def stem(self, image_BCHW: Tensor) -> Tensor:
        """BDHW: three convolutions, and a quarter of the image's side."""
        x = F.relu(self.bn1(self.conv1(image_BCHW)))
        x = F.relu(self.bn2(self.conv2(x)))
        return self.avgpool(F.relu(self.bn3(self.conv3(x))))  # type: ignore[no-any-return]

    def forward(self, image_BCHW: Tensor) -> Tensor:
        # Convolutions are fastest with channels innermost, and keep what their input has.
        image_BCHW = image_BCHW.contiguous(memory_format=torch.channels_last)
        stages = (self.layer1, self.layer2, self.layer3, self.layer4)
        blocks = [block for stage in stages for block in stage]
        if not self.gradient_checkpointing:
            x = self.stem(image_BCHW)
            for block in blocks:
                x = block(x)
            return self.attnpool(x)  # type: ignore[no-any-return]
        x = recomputed(self.stem, [self.bn1, self.bn2, self.bn3], image_BCHW)
        for block in blocks:
            x = recomputed(block, batch_norms(block), x)
        return self.attnpool(x)  # type: ignore[no-any-return]
