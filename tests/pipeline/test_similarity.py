"""pipeline.similarity"""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from pipeline.similarity import is_copy, is_drawn, look, similarity, size_of
from pipeline.variants import starts
from tests.pipeline.pictures import noise

SIZE = (320, 240)


def _alike(known: Image.Image, seen: Image.Image, variant: str = "original") -> float:
    return similarity(look(known), look(seen), starts(variant, *known.size))


@pytest.mark.parametrize(
    ("copy", "variant"),
    [
        (lambda i: i.resize((80, 60)), "original"),
        (lambda i: i.rotate(-3, Image.Resampling.BICUBIC), "original"),
        (lambda i: i.crop((30, 5, 310, 215)), "crop90"),
        (lambda i: ImageOps.mirror(i).crop((10, 10, 300, 230)), "flip"),
        (lambda i: ImageOps.expand(i, 12, "white"), "border"),
        (lambda i: ImageEnhance.Brightness(i).enhance(1.2), "original"),
        (lambda i: ImageEnhance.Contrast(i).enhance(0.5).convert("L").convert("RGB"), "original"),
        (lambda i: i.filter(ImageFilter.GaussianBlur(1.5)), "original"),
    ],
)
def test_a_copy_is_alike_however_it_was_changed(copy, variant: str) -> None:
    image = noise(1, SIZE)
    assert _alike(image, copy(image), variant) > 0.85


def test_another_picture_of_the_same_coarse_light_is_not() -> None:
    image, other = noise(1, SIZE), noise(2, SIZE)
    coarse, others = (i.filter(ImageFilter.GaussianBlur(8)) for i in (image, other))
    fine = np.asarray(other, float) - np.asarray(others, float)
    mixed = np.clip(np.asarray(coarse, float) + fine, 0, 255)
    disguised = Image.fromarray(mixed.astype(np.uint8))
    assert np.corrcoef(_grey(image), _grey(disguised))[0, 1] > 0.7
    assert _alike(image, disguised) < 0.4


def _grey(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L").resize((16, 16)), float).ravel()


def test_too_little_to_compare_is_no_number() -> None:
    flat = Image.new("RGB", SIZE, "teal")
    assert np.isnan(_alike(flat, flat))
    assert np.isnan(_alike(noise(1, SIZE), flat))
    # Less than two fifths of it.
    assert not _alike(noise(1, SIZE), noise(1, SIZE).crop((0, 0, 160, 120))) > 0.5


def _shape(colour: str, dot: tuple[int, int]) -> Image.Image:
    image = Image.new("RGB", (128, 128), "white")
    drawing = ImageDraw.Draw(image)
    drawing.ellipse((20, 20, 108, 108), fill=colour)
    drawing.rectangle((*dot, dot[0] + 14, dot[1] + 14), fill="black")
    return image


def test_drawings_of_one_shape_and_another_shade_differ_and_a_resized_one_does_not() -> None:
    known = _shape("orange", (50, 50))
    assert is_drawn(look(known))
    assert not is_drawn(look(noise(1, SIZE)))
    assert _alike(known, _shape("orange", (50, 50)).resize((64, 64), Image.Resampling.BOX)) > 0.8
    assert _alike(known, _shape("blue", (50, 50))) == 0
    assert _alike(known, _shape("orange", (64, 70))) < 0.7


def _stored(image: Image.Image, quality: int = 90) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream).convert("RGB")


def _is_copy(known: Image.Image, seen: Image.Image) -> bool:
    return is_copy(look(_stored(known)), look(_stored(seen)), starts("original", *known.size))


# Of one light, which is all that hashes see; as JPEG neither counts as drawn.
RED, BLUE = (217, 80, 80), (60, 125, 253)


def _hearts(colour: tuple[int, int, int], *, has_mark: bool = False) -> Image.Image:
    image = Image.new("RGB", (128, 128), "white")
    drawing = ImageDraw.Draw(image)
    drawing.ellipse((10, 20, 66, 108), fill=colour)
    drawing.ellipse((60, 30, 120, 90), fill=colour, outline="black", width=5)
    if has_mark:
        drawing.rectangle((84, 54, 99, 69), fill="black")
    return image


@pytest.mark.parametrize("image", [noise(1, SIZE), _hearts(RED), _hearts(BLUE, has_mark=True)])
@pytest.mark.parametrize(
    "copy",
    [
        lambda i: _stored(i, 30),
        lambda i: i.resize((i.width // 2, i.height // 2)).resize(i.size),
        lambda i: i.crop((2, 1, i.width - 1, i.height - 1)),
        lambda i: ImageEnhance.Contrast(i).enhance(0.8),
        lambda i: i.filter(ImageFilter.GaussianBlur(1)),
    ],
)
def test_a_copy_within_the_corpus_is_one_in_every_place(image: Image.Image, copy) -> None:
    assert _is_copy(image, copy(image))


@pytest.mark.parametrize(
    "other",
    [
        _hearts(BLUE),
        _hearts(RED, has_mark=True),
        _hearts(RED).convert("L").convert("RGB"),
        ImageOps.invert(_hearts(RED)),
        ImageEnhance.Contrast(_hearts(RED)).enhance(0.4),
    ],
)
def test_another_colour_or_a_small_mark_is_another_picture(other: Image.Image) -> None:
    known = _hearts(RED)
    assert not _is_copy(known, other)
    assert not _is_copy(other, known)


def test_drawings_of_other_colours_differ_from_an_evaluation_image_and_grey_ones_do_not() -> None:
    red, blue = _hearts(RED), _hearts(BLUE)
    lights = (np.asarray(image.convert("L"), int) for image in (red, blue))
    assert np.abs(next(lights) - next(lights)).max() <= 1
    assert is_drawn(look(red))
    assert _alike(red, _stored(red)) > 0.9
    assert _alike(red, _stored(blue)) == 0
    assert _alike(red, _stored(blue.convert("L").convert("RGB"))) > 0.9


def test_a_look_knows_the_size_of_its_picture() -> None:
    assert size_of(look(noise(1, (300, 200)))) == (300, 200)
    assert size_of(look(Image.new("RGB", (70_000, 1)))) == (0xFFFF, 1)
