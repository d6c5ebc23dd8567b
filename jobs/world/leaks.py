"""Leaks: images of an evaluation set that the web shows as well, changed on the way."""

import io
from collections.abc import Callable, Iterable

from PIL import Image

from jobs.world import draw
from jobs.world.folder import DROPPED, MEASURED, Building

Transformation = Callable[[Image.Image], bytes]


def _recompressed(picture: Image.Image) -> bytes:
    return draw.jpeg(picture, 50)


def _half(picture: Image.Image) -> bytes:
    size = (picture.width // 2, picture.height // 2)
    return draw.jpeg(picture.resize(size, Image.Resampling.BICUBIC), 85)


def _flip(picture: Image.Image) -> bytes:
    return draw.jpeg(picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 85)


def _square(picture: Image.Image) -> bytes:
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return draw.jpeg(picture.crop((left, top, left + side, top + side)), 85)


def _pad(picture: Image.Image) -> bytes:
    side = max(picture.size)
    frame = Image.new("RGB", (side, side), (0, 0, 0))
    frame.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return draw.jpeg(frame, 85)


def _cropped(share: float) -> Transformation:
    def crop(picture: Image.Image) -> bytes:
        dx, dy = round(picture.width * share / 2), round(picture.height * share / 2)
        return draw.jpeg(picture.crop((dx, dy, picture.width - dx, picture.height - dy)), 85)

    return crop


TRANSFORMATIONS: dict[str, Transformation] = {
    "recompressed": _recompressed,
    "half": _half,
    "crop5": _cropped(0.05),
    "crop10": _cropped(0.10),
    "flip": _flip,
    "square": _square,
    "pad": _pad,
}
"""What happens to an image between two pages, by name; crops keep the middle."""


def transformed(picture: Image.Image, name: str) -> bytes:
    """`picture` as JPEG, after the transformation `name`."""
    return TRANSFORMATIONS[name](picture.convert("RGB"))


def leak(building: Building, evalset: str, images: Iterable[tuple[str, bytes, str]]) -> None:
    """Plant images of `evalset`, given as name, bytes and caption, under every transformation.

    The audit looks for crops of 10%; what it makes of 5% lies between, and is measured.
    """
    names = ["identical", *TRANSFORMATIONS]
    for number, (name, data, caption) in enumerate(images):
        how = names[number % len(names)]
        path = f"/img/found/{evalset}-{number:04d}.jpg"
        picture = Image.open(io.BytesIO(data))
        building.put(path, data if how == "identical" else transformed(picture, how))
        expect = MEASURED if how == "crop5" else DROPPED
        url = building.plant(f"leak_{how}", expect, path, caption)
        building.leaks.append(
            {"url": url, "eval_set": evalset, "eval_image": name, "transformation": how}
        )
