"""A photo made of noise: what smooth pictures and flat ones cannot show."""

import io

import numpy as np
from PIL import Image


def photo(size: tuple[int, int], kind: str = "JPEG") -> bytes:
    """Detail of every scale, as a camera sees."""
    chance = np.random.default_rng(2)
    image = Image.new("RGB", size, "gray")
    for cells in (4, 9, 20, 45):
        grid = Image.fromarray(chance.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        image = Image.blend(image, grid.resize(size, Image.Resampling.BICUBIC), 0.45)
    file = io.BytesIO()
    image.save(file, kind, quality=88)
    return file.getvalue()
