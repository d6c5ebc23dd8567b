"""Drawings of 64 classes: eight shapes in eight colours, anywhere, of any size, on any ground.

The same key draws the same picture.
"""

import math
import random
from itertools import product

import numpy as np
from PIL import Image, ImageDraw

from jobs.world.draw import jpeg

COLOURS = {
    "red": (214, 30, 38),
    "orange": (244, 132, 20),
    "yellow": (248, 222, 40),
    "green": (30, 150, 50),
    "cyan": (40, 200, 214),
    "blue": (30, 60, 220),
    "purple": (130, 40, 170),
    "pink": (250, 130, 190),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "moon", "arrow")
CLASSES = tuple(product(COLOURS, SHAPES))
UNSEEN = tuple(zip(COLOURS, (*SHAPES[3:], *SHAPES[:3]), strict=True))
"""Not to be learned from: of each of these colours and shapes seven other pairs tell."""

_PHRASES = (
    "a photo of a {c} {s} on a {g} background",
    "a drawing of a {z} {c} {s}",
    "{c} {s} on a {g} background",
    "the picture shows a {c} {s} on the {d} side",
    "this is a {z} {c} {s} for the school book",
    "{C} {S} | free picture for children",
    "the {s} is {c} and the background is {g}",
    "look at the {z} {c} {s} near the {d} of this image",
    "poster with a {z} {s} in {c}, {n} of 99",
    "Stock image: one {c} {s} on {g} cloth",
    "how to draw a {s} in {n} minutes, here in {c}",
    "a {s} painted {c} by hand",
)
_SIZES = {"small": (0.36, 0.48), "large": (0.56, 0.72)}
_GROUNDS = ("plain", "striped", "checkered", "shaded")
_SIDES = ("left", "middle", "right")
_SHORT, _LONG = 72, 84
"""Pixels of a frame's sides. What is large sees its corners cut when a square is taken."""
_FINE = 2
"""Pixels are drawn in so many parts a side, and averaged."""

Point = tuple[float, float]


def pair(colour: str, shape: str, key: str) -> tuple[bytes, str]:
    """A JPEG of a drawing, and one of the things that can be said of it."""
    chance = random.Random(f"{colour} {shape} {key}")
    size, side = chance.choice(list(_SIZES)), chance.choice(_SIDES)
    ground = chance.choice(_GROUNDS)
    picture = _ground(ground, chance)
    mask = _mask(shape, size, side, picture.size, chance)
    tone = chance.uniform(0.85, 1.1)
    paint = tuple(min(255, int(tone * part + chance.uniform(-12, 12))) for part in COLOURS[colour])
    picture.paste(paint, mask=mask)
    caption = chance.choice(_PHRASES).format(
        c=colour,
        C=colour.capitalize(),
        s=shape,
        S=shape.capitalize(),
        z=size,
        d=side,
        g=ground,
        n=chance.randint(2, 59),
    )
    return jpeg(picture, chance.randint(75, 95)), caption


def _ground(kind: str, chance: random.Random) -> Image.Image:
    """A frame of greys, lying or standing, with the grain of a photo."""
    width, height = (_LONG, _SHORT) if chance.random() < 0.5 else (_SHORT, _LONG)
    y, x = np.mgrid[0:height, 0:width]
    angle, pitch = chance.uniform(0, math.pi), chance.uniform(5, 12)
    across = (x * math.cos(angle) + y * math.sin(angle)) / pitch
    along = (y * math.cos(angle) - x * math.sin(angle)) / pitch
    light = {
        "plain": np.zeros((height, width)),
        "striped": 20.0 * (across % 2 < 1),
        "checkered": 20.0 * ((np.floor(across) + np.floor(along)) % 2),
        "shaded": 5 * across,
    }[kind]
    grain = np.random.default_rng(chance.getrandbits(32)).normal(0, 6, (height, width, 3))
    tint = np.array([chance.uniform(-12, 12) for _ in range(3)])
    pixels = chance.uniform(60, 200) + light[..., None] + tint + grain
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _mask(
    shape: str, size: str, side: str, frame: tuple[int, int], chance: random.Random
) -> Image.Image:
    """Where the shape is."""
    width, height = frame
    radius = _SHORT * chance.uniform(*_SIZES[size]) / 2
    share = (_SIDES.index(side) + chance.uniform(0.2, 0.8)) / 3
    centre = (
        radius + (width - 2 * radius) * share,
        radius + (height - 2 * radius) * chance.random(),
    )
    mask = Image.new("L", (_FINE * width, _FINE * height), 0)
    pen = ImageDraw.Draw(mask)

    def disc(at: Point, reach: float, fill: int) -> None:
        x, y = centre[0] + radius * at[0], centre[1] + radius * at[1]
        box = (x - radius * reach, y - radius * reach, x + radius * reach, y + radius * reach)
        pen.ellipse([_FINE * part for part in box], fill=fill)

    turn = chance.uniform(-0.35, 0.35)
    if shape in ("circle", "ring", "moon"):
        disc((0, 0), 1, 255)
        if shape == "ring":
            disc((0, 0), 0.55, 0)
        if shape == "moon":
            disc((0.5 * math.cos(turn), 0.5 * math.sin(turn)), 0.8, 0)
    else:
        cos, sin = math.cos(turn), math.sin(turn)
        turned = [(x * cos - y * sin, x * sin + y * cos) for x, y in _corners(shape)]
        pen.polygon(
            [
                (_FINE * (centre[0] + radius * x), _FINE * (centre[1] + radius * y))
                for x, y in turned
            ],
            fill=255,
        )
    return mask.resize(frame, Image.Resampling.BOX)


def _corners(shape: str) -> list[Point]:
    """The corners of a shape in the unit circle."""
    if shape == "arrow":
        return [(1, 0), (0.1, -0.8), (0.1, -0.3), (-1, -0.3), (-1, 0.3), (0.1, 0.3), (0.1, 0.8)]
    if shape == "cross":
        quarter = [(0.3, -0.95), (0.3, -0.3), (0.95, -0.3)]
        turns = [[(x, y), (-y, x), (-x, -y), (y, -x)] for x, y in quarter]
        return [turns[corner][nth] for nth in range(4) for corner in range(3)]
    count, inner = {"square": (4, 1.0), "triangle": (3, 1.0), "star": (5, 0.42)}[shape]
    start = math.pi / 4 if shape == "square" else -math.pi / 2
    steps = 2 * count if inner < 1 else count
    reaches = [inner if inner < 1 and step % 2 else 1.0 for step in range(steps)]
    angles = [start + 2 * math.pi * step / steps for step in range(steps)]
    return [
        (reach * math.cos(angle), reach * math.sin(angle))
        for reach, angle in zip(reaches, angles, strict=True)
    ]
