"""Drawn pictures for tests of hashes and looks."""

import numpy as np
from PIL import Image


def noise(seed: int, size: tuple[int, int]) -> Image.Image:
    """Noise of several scales, as a photo has it: PDQ reads detail down to a sixteenth."""
    chance = np.random.default_rng(seed)
    picture = Image.new("RGB", size, "gray")
    for cells in (5, 12, 30):
        grid = Image.fromarray(chance.integers(0, 255, (cells, cells, 3), dtype=np.uint8))
        picture = Image.blend(picture, grid.resize(size, Image.Resampling.BICUBIC), 0.5)
    return picture
