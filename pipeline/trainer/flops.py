"""FLOPs: what a pair costs, by the sizes of a model alone.

Multiplications of matrices, convolutions and attention; one multiply-add is two. Texts are counted
as long as the context and every position in every block, whatever a training saves of it, so that
shares of a GPU's peak compare with those of others.
"""

from pipeline.trainer.architectures import Architecture

_BACKWARD = 2
"""Of each product both factors have a gradient, and each gradient is such a product."""


def training_flops(arch: Architecture) -> float:
    """Of a pair, forward and backward. A look-up in a vocabulary of any size costs nothing."""
    return (1 + _BACKWARD) * (image_flops(arch) + text_flops(arch))


def image_flops(arch: Architecture) -> float:
    """Of one image, forward."""
    if arch.patch is None:
        return 2 * _resnet(arch)
    patches, width = (arch.resolution // arch.patch) ** 2, arch.width
    blocks = arch.layers[0] * _block(patches + 1, width)
    return 2 * (patches * 3 * arch.patch**2 * width + blocks + width * arch.embed)


def text_flops(arch: Architecture) -> float:
    """Of one text of the whole context, forward."""
    blocks = arch.text_layers * _block(arch.context, arch.text_width)
    return 2 * (blocks + arch.text_width * arch.embed)


def _block(positions: int, width: int) -> float:
    """Multiply-adds of a transformer block: four projections, eight of the MLP, attention."""
    return positions * 12 * width**2 + 2 * positions**2 * width


def _resnet(arch: Architecture) -> float:
    """Multiply-adds of a ResNet."""
    width, side = arch.width, arch.resolution // 2
    half = width // 2
    total = float(side**2 * 9 * (3 * half + half * half + half * width))
    side, inputs = side // 2, width
    for stage, blocks in enumerate(arch.layers):
        planes, pooled = width * 2**stage, side // (2 if stage else 1)
        for block in range(blocks):
            # The pool that stands for a stride comes after the second convolution.
            total += side**2 * (inputs * planes + 9 * planes**2) + pooled**2 * planes * 4 * planes
            if block == 0:
                total += pooled**2 * inputs * 4 * planes
            inputs, side = 4 * planes, pooled
    places = side**2 + 1
    # Keys and values of all places, the query and the output of the mean alone.
    total += 2 * places * inputs**2 + inputs**2 + inputs * arch.embed
    return total + 2 * places * inputs
