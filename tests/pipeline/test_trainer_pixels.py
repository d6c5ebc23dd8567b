"""Pixels: any image becomes the square that was asked for, or says why not."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.decoding import Undecodable
from pipeline.trainer.feeding import normalised
from pipeline.trainer.pixels import centre_square, random_square


def _encoded(image, kind="PNG"):
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def test_a_random_square_moves_along_the_longer_side_from_end_to_end():
    pixels = np.zeros((32, 96, 3), np.uint8)
    pixels[:, :, 0] = np.arange(96)
    data = _encoded(Image.fromarray(pixels))
    assert random_square(data, 32, 0.0)[0, :, 0].tolist() == list(range(32))
    assert random_square(data, 32, 0.9999)[0, :, 0].tolist() == list(range(64, 96))


@pytest.mark.parametrize("size", [(32, 32), (300, 200), (20, 500), (1, 1), (33, 32)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_any_size_of_image_becomes_the_square_that_was_asked_for(size, kind):
    data = _encoded(Image.new("RGB", size, (200, 100, 50)), kind)
    for square in (random_square(data, 32, 0.5), centre_square(data, 32)):
        assert square.shape == (32, 32, 3)
        assert square.dtype == np.uint8
        assert np.abs(square.astype(int) - [200, 100, 50]).max() <= 3


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8\xff", b"GIF89a", b"\x89PNG\r\n\x1a\n" + b"x" * 50]
)
def test_bytes_that_are_no_image_are_undecodable(data):
    for square in (lambda: random_square(data, 32, 0.5), lambda: centre_square(data, 32)):
        with pytest.raises(Undecodable):
            square()


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded():
    data = _encoded(Image.new("1", (8_000, 8_000)))
    for square in (lambda: random_square(data, 32, 0.5), lambda: centre_square(data, 32)):
        with pytest.raises(Undecodable, match="8000x8000"):
            square()


def test_normalised_pixels_of_the_mean_colour_are_zero():
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]) * 255
    image = mean.round().to(torch.uint8).expand(1, 4, 4, 3)
    out = normalised(image, torch.device("cpu"))
    assert out.shape == (1, 3, 4, 4)
    assert out.abs().max() < 0.01


def test_every_byte_is_normalised_by_the_mean_and_deviation_of_its_channel():
    image = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(-1, -1, -1, 3)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073], dtype=torch.float64)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711], dtype=torch.float64)
    wanted = ((image.double() / 255 - mean) / std).permute(0, 3, 1, 2)
    found = normalised(image, torch.device("cpu"))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=5e-7)
    half = normalised(image, torch.device("cpu"), torch.bfloat16)
    torch.testing.assert_close(half, found.bfloat16(), rtol=0, atol=0)


def test_normalised_channels_stay_innermost_in_memory():
    out = normalised(torch.zeros(2, 5, 7, 3, dtype=torch.uint8), torch.device("cpu"))
    assert out.is_contiguous(memory_format=torch.channels_last)


def _photo(width, height):
    """Smooth, so that ways to shrink it differ little, and different everywhere."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin((14 - c) * x / width) + np.cos((11 + c) * y / height) for c in range(3)]
    return Image.fromarray(((np.stack(waves, axis=-1) + 2) * 63).astype(np.uint8))


@pytest.mark.parametrize("width", [256, 341, 512, 700, 1100])
def test_a_random_square_is_near_what_pillow_makes_of_the_same_part(width):
    height = width * 3 // 4
    data = _encoded(_photo(width, height), "JPEG")
    whole = Image.open(io.BytesIO(data)).convert("RGB")
    left = int(0.5 * (width - height + 1))
    wanted = whole.crop((left, 0, left + height, height)).resize((64, 64), Image.Resampling.BICUBIC)
    found = random_square(data, 64, 0.5)
    # A square that is shrunk while it is decoded may begin a fraction of a pixel aside.
    assert np.abs(found.astype(int) - np.asarray(wanted).astype(int)).mean() < 4


def test_a_photo_is_turned_upright():
    image = _photo(60, 40)
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95, exif=exif)
    upright = np.asarray(image.rotate(-90, expand=True))
    found = random_square(file.getvalue(), 40, 0.0)
    assert np.abs(found.astype(int) - upright[:40].astype(int)).mean() < 4


def test_what_is_transparent_is_white():
    data = _encoded(Image.new("RGBA", (40, 40), (0, 0, 0, 0)))
    assert random_square(data, 32, 0.5).min() == 255


@pytest.mark.parametrize("kind", ["WEBP", "GIF", "BMP"])
def test_other_formats_are_read_too(kind):
    found = random_square(_encoded(_photo(64, 48), kind), 32, 0.5)
    assert found.std() > 20


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_jpegs_of_other_colours_are_read(mode):
    found = random_square(_encoded(_photo(64, 48).convert(mode), "JPEG"), 32, 0.5)
    assert found.shape == (32, 32, 3)
    assert found.std() > 10


def test_a_jpeg_that_breaks_off_is_undecodable():
    data = _encoded(_photo(300, 200), "JPEG")
    with pytest.raises(Undecodable) as told:
        random_square(data[: len(data) // 2], 32, 0.5)
    assert told.value.reason == "truncated"
