"""Leaks: images of an evaluation set that the web shows as well, changed on the way."""

import io
from collections.abc import Callable, Iterable

from PIL import Image, ImageOps

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


def _cropped(share: float, at: tuple[float, float] = (0.5, 0.5)) -> Transformation:
    """`share` of either side is cut off; what is left lies so far to the right and down."""

    def crop(picture: Image.Image) -> bytes:
        width, height = (round(side * (1 - share)) for side in picture.size)
        left = round((picture.width - width) * at[0])
        top = round((picture.height - height) * at[1])
        return draw.jpeg(picture.crop((left, top, left + width, top + height)), 85)

    return crop


def _quarter(picture: Image.Image) -> bytes:
    size = (max(16, picture.width // 4), max(16, picture.height // 4))
    return draw.jpeg(picture.resize(size, Image.Resampling.BICUBIC), 85)


def _rotated(picture: Image.Image) -> bytes:
    return draw.jpeg(picture.rotate(1, Image.Resampling.BICUBIC), 85)


def _border(picture: Image.Image) -> bytes:
    return draw.jpeg(ImageOps.expand(picture, max(picture.size) // 20, "white"), 85)


def _grey(picture: Image.Image) -> bytes:
    return draw.jpeg(picture.convert("L").convert("RGB"), 85)


TRANSFORMATIONS: dict[str, Transformation] = {
    "recompressed": _recompressed,
    "half": _half,
    "crop5": _cropped(0.05),
    "crop10": _cropped(0.10),
    "flip": _flip,
    "square": _square,
    "pad": _pad,
    "quarter": _quarter,
    "rotated": _rotated,
    "border": _border,
    "grey": _grey,
    "crop10_aside": _cropped(0.10, at=(0.85, 0.2)),
}
"""What happens to an image between two pages, by name; crops keep the middle, but for the last."""
KINDS = ("identical", *TRANSFORMATIONS)
_MEASURED = ("crop10_aside",)
"""Kinds that are not always found (docs/decisions.md, Recall)."""


def transformed(picture: Image.Image, name: str) -> bytes:
    """`picture` as JPEG, after the transformation `name`."""
    return TRANSFORMATIONS[name](picture.convert("RGB"))


def leak(building: Building, evalset: str, images: Iterable[tuple[str, bytes, str]]) -> None:
    """Plant images of `evalset`, given as name, bytes and caption, under every transformation."""
    for number, (name, data, caption) in enumerate(images):
        how = KINDS[number % len(KINDS)]
        path = f"/img/found/{evalset}-{number:04d}.jpg"
        picture = Image.open(io.BytesIO(data))
        building.put(path, data if how == "identical" else transformed(picture, how))
        expect = MEASURED if how in _MEASURED else DROPPED
        url = building.plant(f"leak_{how}", expect, path, caption)
        building.leaks.append(
            {"url": url, "eval_set": evalset, "eval_image": name, "transformation": how}
        )
