"""Drawings: a coloured shape on a textured ground, the same bytes for the same key.

Perceptual hashes see the ground first: every drawing has its own strong, smooth, low-frequency
ground, so that unrelated drawings are as far apart as unrelated photographs.
"""

import hashlib
import io
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

COLOURS = {
    "red": (222, 28, 36),
    "green": (24, 160, 52),
    "blue": (28, 72, 228),
    "yellow": (250, 218, 20),
    "purple": (142, 36, 176),
}
SHAPES = ("circle", "square", "triangle", "star", "cross")
PATTERNS = ("plain", "striped", "dotted", "checkered")
SIZES = {"small": (0.38, 0.46), "medium": (0.47, 0.55), "large": (0.56, 0.65)}
SIDES = ("left", "middle", "right")

_Array = NDArray[np.float32]


@dataclass(frozen=True)
class Drawing:
    """What is drawn; `key` decides everything that is not said here."""

    key: str
    colour: str | None
    shape: str | None
    pattern: str
    size: str = "medium"
    side: str = "middle"
    min_pixels: int = 160
    square: bool | None = None
    """True or False where the frame must be square, or must not be."""


def chance(key: str) -> np.random.Generator:
    """A generator that depends on `key` only."""
    return np.random.default_rng(list(hashlib.sha256(key.encode()).digest()))


def render(drawing: Drawing) -> Image.Image:
    """The picture, RGB."""
    rng = chance(drawing.key)
    width, height = _frame(drawing, rng)
    ground = _smooth(rng, width, height, low=40, high=215, tint=14)
    ground += _pattern(drawing.pattern, rng, width, height)[..., None]
    picture = Image.fromarray(_bytes(ground))
    _dots(picture, rng)
    if drawing.shape is None or drawing.colour is None:
        return picture
    mask = _mask(drawing, rng, width, height)
    shade = _smooth(rng, width, height, low=205, high=255, tint=0) / 255
    fill = Image.fromarray(_bytes(shade * np.array(COLOURS[drawing.colour], dtype=np.float32)))
    picture.paste(fill, mask=mask)
    return picture


def flat(colour: tuple[int, int, int], width: int = 240, height: int = 200) -> Image.Image:
    """A picture of one colour and nothing else."""
    return Image.new("RGB", (width, height), colour)


def jpeg(picture: Image.Image, quality: int, exif: Image.Exif | None = None) -> bytes:
    """`picture` as JPEG."""
    buffer = io.BytesIO()
    if exif is None:
        picture.convert("RGB").save(buffer, "JPEG", quality=quality)
    else:
        picture.convert("RGB").save(buffer, "JPEG", quality=quality, exif=exif)
    return buffer.getvalue()


def encode(picture: Image.Image, form: str, quality: int) -> bytes:
    """`picture` as jpg, png, webp, or `rgba`: a PNG with one corner seen through."""
    if form == "jpg":
        return jpeg(picture, quality)
    buffer = io.BytesIO()
    if form == "webp":
        picture.save(buffer, "WEBP", quality=quality, method=0)
    elif form == "rgba":
        alpha = Image.new("L", picture.size, 255)
        ImageDraw.Draw(alpha).rectangle((0, 0, 24, 24), fill=0)
        picture.putalpha(alpha)
        picture.save(buffer, "PNG", compress_level=1)
    else:
        picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _frame(drawing: Drawing, rng: np.random.Generator) -> tuple[int, int]:
    short = int(rng.integers(drawing.min_pixels, 300))
    long = min(400, int(short * rng.uniform(1.12, 1.6)))
    kind = int(rng.integers(3))
    if drawing.square is not None:
        kind = 0 if drawing.square else 1 + kind % 2
    return ((short, short), (long, short), (short, long))[kind]


def _smooth(
    rng: np.random.Generator, width: int, height: int, *, low: int, high: int, tint: int
) -> _Array:
    """A random coarse grid, enlarged: light and dark areas with a slight tint."""
    columns, rows = (int(n) for n in rng.integers(5, 9, size=2))
    light = rng.uniform(low, high, size=(rows, columns, 1))
    colour = rng.uniform(-tint, tint, size=(rows, columns, 3)) if tint else np.zeros((1, 1, 3))
    grid = Image.fromarray(_bytes(light + colour))
    return np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)


def _pattern(name: str, rng: np.random.Generator, width: int, height: int) -> _Array:
    """What is added to the ground's light, per pixel."""
    pitch = float(rng.uniform(9, 18))
    angle = float(rng.uniform(0, math.pi))
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    across = (x * math.cos(angle) + y * math.sin(angle)) / pitch
    along = (y * math.cos(angle) - x * math.sin(angle)) / pitch
    if name == "striped":
        sign = np.where(across % 2 < 1, 1.0, -1.0)
    elif name == "checkered":
        sign = np.where((np.floor(across) + np.floor(along)) % 2 < 1, 1.0, -1.0)
    elif name == "dotted":
        sign = np.where((across % 2 - 1) ** 2 + (along % 2 - 1) ** 2 < 0.3, 1.6, -0.4)
    else:
        sign = np.zeros((height, width))
    return (22 * sign).astype(np.float32)


def _dots(picture: Image.Image, rng: np.random.Generator) -> None:
    """A few small grey dots, lighter or darker than what they lie on."""
    pen = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(6, 16))):
        x, y = rng.uniform(0, picture.width), rng.uniform(0, picture.height)
        radius, grey = rng.uniform(2, 6), int(rng.integers(20, 236))
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(grey, grey, grey))


def _mask(drawing: Drawing, rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Where the shape is, antialiased."""
    low, high = SIZES[drawing.size]
    side = min(width, height)
    radius = side * rng.uniform(low, high) / 2
    third = SIDES.index(drawing.side)
    share = (third + rng.uniform(0.2, 0.8)) / 3
    x = radius + (width - 2 * radius) * share
    y = radius + (height - 2 * radius) * rng.uniform(0.05, 0.95)
    turn = rng.uniform(-0.4, 0.4)
    mask = Image.new("L", (2 * width, 2 * height), 0)
    pen = ImageDraw.Draw(mask)
    if drawing.shape == "circle":
        box = [2 * (x - radius), 2 * (y - radius), 2 * (x + radius), 2 * (y + radius)]
        pen.ellipse(box, fill=255)
    else:
        corners = _outline(str(drawing.shape), turn)
        pen.polygon([(2 * (x + radius * a), 2 * (y + radius * b)) for a, b in corners], fill=255)
    return mask.resize((width, height), Image.Resampling.BOX)


def _outline(shape: str, turn: float) -> list[tuple[float, float]]:
    """The corners of `shape` in the unit circle."""
    if shape == "cross":
        arm = 0.32
        quarter = [(arm, -1.0), (arm, -arm), (1.0, -arm)]
        corners = []
        for _ in range(4):
            corners += quarter
            quarter = [(-b, a) for a, b in quarter]
        return [_turned(a * 0.94, b * 0.94, turn) for a, b in corners]
    count, inner = {"square": (4, None), "triangle": (3, None), "star": (5, 0.42)}[shape]
    steps = count * (1 if inner is None else 2)
    start = turn - math.pi / 2 + (math.pi / 4 if shape == "square" else 0.0)
    outline = []
    for step in range(steps):
        reach = inner if inner is not None and step % 2 else 1.0
        angle = start + 2 * math.pi * step / steps
        outline.append((reach * math.cos(angle), reach * math.sin(angle)))
    return outline


def _turned(a: float, b: float, turn: float) -> tuple[float, float]:
    return (
        a * math.cos(turn) - b * math.sin(turn),
        a * math.sin(turn) + b * math.cos(turn),
    )


def _bytes(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    clipped: NDArray[np.uint8] = np.clip(values, 0, 255).astype(np.uint8)
    return clipped
