"""Planted copies: what becomes of a photo on its way through the web, for benchmarks.recall."""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

Change = Callable[[Image.Image, np.random.Generator], Image.Image]


@dataclass(frozen=True)
class Copy:
    """One way to change a photo."""

    change: Change
    quality: int = 90
    """Of the JPEG that is put on the web."""
    asked: float | None = None
    """The least recall that is asked, in percent: what pHash within 8 bits alone reached on 798
    photos, in a study that came before this code (padding, square and flip: with variants). Its
    100 is a rounded one."""


def cropped(share: float, *, at_random: bool) -> Change:
    """Without this share of either side, around the middle or anywhere."""

    def change(image: Image.Image, chance: np.random.Generator) -> Image.Image:
        x, y = chance.random(2) if at_random else (0.5, 0.5)
        width, height = image.size
        left, top = round(width * share * x), round(height * share * y)
        return image.crop(
            (left, top, left + round(width * (1 - share)), top + round(height * (1 - share)))
        )

    return change


def _rotated(degrees: float) -> Change:
    """With black corners."""
    return lambda image, _: image.rotate(degrees, Image.Resampling.BICUBIC)


def _levelled(image: Image.Image, chance: np.random.Generator) -> Image.Image:
    """Turned by 2 degrees, and cropped until no corner is black."""
    ratio = max(image.width / image.height, image.height / image.width)
    share = math.tan(math.radians(2)) * ratio
    turned = image.rotate(2, Image.Resampling.BICUBIC)
    return cropped(share, at_random=False)(turned, chance)


def _shrunk(scale: float) -> Change:
    def change(image: Image.Image, _: np.random.Generator) -> Image.Image:
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        return image.resize(size, Image.Resampling.BICUBIC)

    return change


def _padded(colour: str) -> Change:
    return lambda image, _: ImageOps.pad(image, (max(image.size),) * 2, color=colour)


def _bordered(share: float, colour: str) -> Change:
    return lambda image, _: ImageOps.expand(image, round(share * min(image.size)), colour)


def _titled(image: Image.Image, _: np.random.Generator) -> Image.Image:
    titled = image.copy()
    ImageDraw.Draw(titled).text(
        (image.width * 0.05, image.height * 0.8),
        "SAMPLE PHOTO",
        fill="white",
        stroke_width=max(1, image.height // 150),
        stroke_fill="black",
        font_size=max(12, image.height // 8),
    )
    return titled


def _square(image: Image.Image, _: np.random.Generator) -> Image.Image:
    return ImageOps.fit(image, (min(image.size),) * 2)


def _flipped(image: Image.Image, _: np.random.Generator) -> Image.Image:
    return ImageOps.mirror(image)


def _after(first: Change, second: Change) -> Change:
    return lambda image, chance: second(first(image, chance), chance)


def _as_it_is(image: Image.Image, _: np.random.Generator) -> Image.Image:
    return image


COPIES = {
    "none": Copy(_as_it_is),
    "JPEG q30": Copy(_as_it_is, 30, asked=99.5),
    "JPEG q10": Copy(_as_it_is, 10),
    "resize 0.25x": Copy(_shrunk(0.25), asked=99.5),
    "rotation 1": Copy(_rotated(1), asked=99),
    "rotation 2": Copy(_rotated(-2), asked=87),
    "rotation 5": Copy(_rotated(5)),
    "rotation 2, levelled": Copy(_levelled),
    "crop 2%": Copy(cropped(0.02, at_random=True), asked=99),
    "crop 5%": Copy(cropped(0.05, at_random=True), asked=65),
    "crop 10%": Copy(cropped(0.1, at_random=True), asked=11),
    "crop 20%": Copy(cropped(0.2, at_random=True)),
    "centre crop 2%": Copy(cropped(0.02, at_random=False), asked=99),
    "centre crop 5%": Copy(cropped(0.05, at_random=False), asked=65),
    "centre crop 10%": Copy(cropped(0.1, at_random=False), asked=11),
    "centre crop 20%": Copy(cropped(0.2, at_random=False)),
    "lower 10% cut off": Copy(
        lambda image, _: image.crop((0, 0, image.width, max(1, round(image.height * 0.9))))
    ),
    "left 7% cut off": Copy(
        lambda image, _: image.crop((round(image.width * 0.07), 0, image.width, image.height))
    ),
    "square": Copy(_square, asked=99.5),
    "padding, white": Copy(_padded("white"), asked=99.5),
    "padding, black": Copy(_padded("black"), asked=99.5),
    "border 5%, white": Copy(_bordered(0.05, "white")),
    "border 3%, black": Copy(_bordered(0.03, "black")),
    "flip": Copy(_flipped, asked=99.5),
    "flip, centre crop 5%": Copy(_after(_flipped, cropped(0.05, at_random=False))),
    "flip, centre crop 10%": Copy(_after(_flipped, cropped(0.1, at_random=False))),
    "brightness 1.3": Copy(lambda image, _: ImageEnhance.Brightness(image).enhance(1.3)),
    "contrast 0.6": Copy(lambda image, _: ImageEnhance.Contrast(image).enhance(0.6)),
    "blur": Copy(lambda image, _: image.filter(ImageFilter.GaussianBlur(min(image.size) / 150))),
    "a line of text": Copy(_titled),
    "grey": Copy(lambda image, _: image.convert("L").convert("RGB")),
    "0.5x, crop 5%, q50": Copy(_after(_shrunk(0.5), cropped(0.05, at_random=True)), 50),
}


def planted(image: Image.Image, copy: Copy, seed: int) -> bytes:
    """The changed photo as a file."""
    stream = io.BytesIO()
    copy.change(image, np.random.default_rng(seed)).save(stream, "JPEG", quality=copy.quality)
    return stream.getvalue()
