"""pipeline.variants"""

from typing import get_args

import numpy as np
import pytest
from PIL import Image

from pipeline.settings import images as settings
from pipeline.similarity import look, similarity
from pipeline.variants import VARIANTS, basis, starts, varied
from tests.pipeline.pictures import noise


def test_the_settings_know_every_variant() -> None:
    assert set(get_args(settings.Variant)) == set(VARIANTS) - {"original"}


@pytest.mark.parametrize(
    ("name", "box"),
    [
        ("square", (50, 0, 250, 200)),
        ("crop90", (15, 10, 285, 190)),
        ("crop90_se", (30, 20, 300, 200)),
        ("crop95_nw", (0, 0, 285, 190)),
        ("cut_n", (0, 0, 300, 180)),
        ("cut_e", (30, 0, 300, 200)),
    ],
)
def test_a_crop_is_what_its_name_says(name: str, box: tuple[int, int, int, int]) -> None:
    image = noise(1, (300, 200))
    assert np.array_equal(np.asarray(varied(image, name)), np.asarray(image.crop(box)))


def test_a_border_is_of_its_colour_and_the_picture_in_its_middle() -> None:
    image = noise(2, (300, 200))
    padded, framed = varied(image, "pad"), varied(image, "border_black")
    assert (padded.size, framed.size) == ((300, 300), (330, 220))
    assert padded.getpixel((150, 10)) == (255, 255, 255)
    assert framed.getpixel((5, 5)) == (0, 0, 0)
    assert np.array_equal(np.asarray(padded.crop((0, 50, 300, 250))), np.asarray(image))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (4000, 3)])
@pytest.mark.parametrize("name", VARIANTS)
def test_the_thinnest_picture_has_every_variant(name: str, size: tuple[int, int]) -> None:
    assert min(varied(basis(Image.new("RGB", size)), name).size) >= 1
    assert np.isfinite(starts(name, *size)).all()


@pytest.mark.parametrize("name", VARIANTS)
def test_where_a_variant_lies_is_where_the_second_look_begins(name: str) -> None:
    image = noise(3, (300, 200))
    begin = starts(name, *image.size)[:1]
    assert similarity(look(image), look(varied(image, name)), begin) > 0.9
