"""Architectures: the sizes of the paper's nine models, by name, and of two for a laptop."""

from dataclasses import dataclass

from pipeline.errors import BadInput


@dataclass(frozen=True)
class Architecture:
    """One model: its sizes, and the optimiser's constants that go with it. CLIP, tables 18-20."""

    embed: int
    resolution: int
    layers: tuple[int, ...]
    """Blocks of the four stages of a ResNet; of a ViT, one number."""
    width: int
    patch: int | None
    """Pixels of a patch's side; None for a ResNet."""
    text_width: int
    text_layers: int = 12
    context: int = 77
    learning_rate: float = 5e-4

    @property
    def betas(self) -> tuple[float, float]:
        return (0.9, 0.999) if self.patch is None else (0.9, 0.98)

    @property
    def eps(self) -> float:
        return 1e-8 if self.patch is None else 1e-6


ARCHITECTURES = {
    "RN50": Architecture(1024, 224, (3, 4, 6, 3), 64, None, 512),
    "RN101": Architecture(512, 224, (3, 4, 23, 3), 64, None, 512),
    "RN50x4": Architecture(640, 288, (4, 6, 10, 6), 80, None, 640),
    "RN50x16": Architecture(768, 384, (6, 8, 18, 8), 96, None, 768, learning_rate=4e-4),
    "RN50x64": Architecture(1024, 448, (3, 15, 36, 10), 128, None, 1024, learning_rate=3.6e-4),
    "ViT-B/32": Architecture(512, 224, (12,), 768, 32, 512),
    "ViT-B/16": Architecture(512, 224, (12,), 768, 16, 512),
    "ViT-L/14": Architecture(768, 224, (24,), 1024, 14, 768, learning_rate=4e-4),
    "ViT-L/14@336": Architecture(768, 336, (24,), 1024, 14, 768, learning_rate=2e-5),
    "tiny": Architecture(128, 64, (4,), 128, 16, 128, 2, 32),
    "tiny-RN": Architecture(128, 64, (1, 1, 1, 1), 16, None, 128, 2, 32, learning_rate=2e-3),
}
"""The paper's nine models, and two that learn on a laptop: a ViT and a ResNet."""


def architecture(name: str) -> Architecture:
    """The architecture called `name`. Raises BadInput for a name that is not in the table."""
    try:
        return ARCHITECTURES[name]
    except KeyError:
        known = ", ".join(ARCHITECTURES)
        raise BadInput(f"train.model: no model is called `{name}`: choose one of {known}") from None
