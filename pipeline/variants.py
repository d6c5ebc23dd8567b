"""Variants: the transformations that hashes do not survive, made of each evaluation image.

Each is a frame laid over the image, so that the second look knows where to begin.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

Affine = NDArray[np.float64]
"""Two rows of three numbers: where a point (x, y, 1) lies. All of a picture is 0 to 1."""

_SIDE = 256
"""Pixels of the shorter side that variants are made from, as the corpus stores its images."""
_CUT = 0.9
"""What is left of one side by a cut."""


class Variant(NamedTuple):
    """What a copy shows of the image: its own frame, in shares of the image's sides."""

    keep: float = 1.0
    """Of either side; above 1 there is a border."""
    at: tuple[float, float] = (0.5, 0.5)
    """How far to the right and down the frame lies, of the way that it can go."""
    shape: str = ""
    """`square` is cut to a square, `pad` filled up to one, `cut` cut off at one edge alone."""
    flip: bool = False
    angle: float = 0.0
    """Degrees to the left."""
    fill: str = "white"
    """Where the frame reaches beyond the image."""


_EDGES = {
    "nw": (0.0, 0.0),
    "n": (0.5, 0.0),
    "ne": (1.0, 0.0),
    "e": (1.0, 0.5),
    "se": (1.0, 1.0),
    "s": (0.5, 1.0),
    "sw": (0.0, 1.0),
    "w": (0.0, 0.5),
}
VARIANTS = {
    "original": Variant(),
    "flip": Variant(flip=True),
    "flip_square": Variant(shape="square", flip=True),
    "flip_crop90": Variant(keep=0.9, flip=True),
    "square": Variant(shape="square"),
    "pad": Variant(shape="pad"),
    "border": Variant(keep=1.1),
    "border_black": Variant(keep=1.1, fill="black"),
    "crop90": Variant(keep=0.9),
    "crop80": Variant(keep=0.8),
    "left": Variant(angle=2.0, fill="black"),
    "right": Variant(angle=-2.0, fill="black"),
    **{f"cut_{edge}": Variant(shape="cut", at=_EDGES[edge]) for edge in "nesw"},
    **{f"crop95_{edge}": Variant(0.95, _EDGES[edge]) for edge in ("nw", "ne", "se", "sw")},
    **{f"crop90_{edge}": Variant(0.9, at) for edge, at in _EDGES.items()},
}
"""By name. `cut_n` lies at the north: a tenth is missing at the south."""
_GUESSES = (Variant(), Variant(keep=0.9), Variant(keep=1.1))
"""Of a copy that some variant is near: also tried, should it fit none closely."""


_LONG = 4096
"""Pixels of the longer side at most: a strip of 65,500 is 17 GB when it is padded."""


def basis(image: Image.Image) -> Image.Image:
    """What the variants of an image are made from: no larger than the corpus would hold it."""
    scale = min(_SIDE / min(image.size), _LONG / max(image.size))
    if scale >= 1:
        return image
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.BOX)


def varied(image: Image.Image, name: str) -> Image.Image:
    """The image as the variant shows it."""
    variant = VARIANTS[name]
    if variant.angle:
        image = image.rotate(variant.angle, Image.Resampling.BILINEAR, fillcolor=variant.fill)
    left, top, right, bottom = (round(edge) for edge in _frame(variant, *image.size))
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    is_within = min(left, top) >= 0 and right <= image.width and bottom <= image.height
    if is_within:
        framed = image.crop((left, top, right, bottom))
    else:
        framed = Image.new("RGB", (right - left, bottom - top), variant.fill)
        framed.paste(image, (-left, -top))
    return ImageOps.mirror(framed) if variant.flip else framed


def starts(name: str, width: int, height: int) -> Affine:
    """Guesses of where the points of a copy lie in an image of this size that is near as `name`."""
    variant = VARIANTS[name]
    guesses = [guess._replace(flip=variant.flip) for guess in _GUESSES]
    return np.array([_start(guess, width, height) for guess in (variant, *guesses)])


def _start(variant: Variant, width: int, height: int) -> Affine:
    left, top, right, bottom = _frame(variant, width, height)
    left, right, top, bottom = left / width, right / width, top / height, bottom / height
    if variant.flip:
        left, right = right, left
    found = np.array([[right - left, 0.0, left], [0.0, bottom - top, top]])
    if variant.angle:
        # Libraries differ in the last bit.
        angle = math.radians(variant.angle)
        cos, sin = round(math.cos(angle), 12), round(math.sin(angle), 12)
        # About the middle, in pixels.
        turn = np.array([[cos, -sin * height / width], [sin * width / height, cos]])
        found[:, 2] -= 0.5
        # No product of matrices: the library behind it rounds as the processor does.
        found = turn[:, :1] * found[0] + turn[:, 1:] * found[1]
        found[:, 2] += 0.5
    return found


def _frame(variant: Variant, width: int, height: int) -> tuple[float, float, float, float]:
    """Left, top, right and bottom, in pixels of the image."""
    if variant.shape == "square":
        sides = (float(min(width, height)),) * 2
    elif variant.shape == "pad":
        sides = (float(max(width, height)),) * 2
    elif variant.shape == "cut":
        is_lower = variant.at[0] == 0.5
        sides = (width, height * _CUT) if is_lower else (width * _CUT, height)
    else:
        sides = width * variant.keep, height * variant.keep
    left, top = (width - sides[0]) * variant.at[0], (height - sides[1]) * variant.at[1]
    return left, top, left + sides[0], top + sides[1]
