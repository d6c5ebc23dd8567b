"""PDQ: to the bit that of the pdqhash package."""

import numpy as np
import pdqhash
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline import lanes, pdq, sums
from pipeline.kernels import Bytes


def by_package(pixels: Bytes) -> tuple[bytes, int]:
    bits, quality = pdqhash.compute(pixels)
    return np.packbits(bits.astype(bool)).tobytes(), int(quality)


def noise(height: int, width: int, seed: int = 0) -> Bytes:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@settings(deadline=None, max_examples=150)
@given(st.integers(5, 150) | st.integers(5, 700), st.integers(5, 700), st.integers(0, 2**32))
@example(64, 64, 0)
@example(64, 65, 0)
@example(5, 5, 0)
@example(129, 1000, 0)
@example(30, 3000, 0)
@example(3000, 30, 0)
def test_noise_has_the_hash_of_the_package(height: int, width: int, seed: int) -> None:
    pixels = noise(height, width, seed)
    assert pdq.compute(pixels) == by_package(pixels)


@settings(deadline=None, max_examples=60)
@given(st.integers(5, 400), st.integers(5, 400), st.integers(1, 12), st.integers(0, 2**32))
def test_smooth_pictures_have_the_hash_and_the_quality_of_the_package(
    height: int, width: int, cells: int, seed: int
) -> None:
    """Their quality is anything from 0 to 100."""
    image = Image.fromarray(noise(cells, cells, seed))
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
    assert pdq.compute(pixels) == by_package(pixels)


@settings(deadline=None, max_examples=60)
@given(st.integers(5, 300), st.integers(5, 300), st.integers(0, 255))
def test_flat_pictures_have_the_hash_of_the_package(height: int, width: int, value: int) -> None:
    """Of which every bit is the rounding of floats."""
    pixels = np.full((height, width, 3), value, np.uint8)
    assert pdq.compute(pixels) == by_package(pixels)


def test_ramps_have_the_hash_of_the_package() -> None:
    downward = np.tile(np.arange(256, dtype=np.uint8)[:, None, None], (1, 100, 3))
    for pixels in (downward, downward.swapaxes(0, 1)):
        assert pdq.compute(pixels) == by_package(np.ascontiguousarray(pixels))


@pytest.mark.parametrize("size", [(1, 1), (4, 100), (100, 4)])
def test_what_is_too_small_has_no_quality(size: tuple[int, int]) -> None:
    pixels = noise(*size)
    assert pdq.compute(pixels) == by_package(pixels) == (bytes(pdq.BYTES), 0)


def test_a_smaller_picture_after_a_larger_one_is_hashed_alike() -> None:
    """They share their memory."""
    small = noise(70, 90)
    alone = pdq.compute(small)
    pdq.compute(noise(500, 600))
    assert pdq.compute(small) == alone


def test_every_colour_is_as_bright_as_the_package_has_it() -> None:
    levels = np.arange(256, dtype=np.uint8)
    for red in range(0, 256, 5):
        every = np.stack(np.meshgrid(np.uint8(red), levels, levels), -1).reshape(-1, 3)
        red_part, green_part, blue_part = (every * np.array([0.299, 0.587, 0.114])).T
        found = np.empty(len(every), np.float32)
        lanes.light(every.reshape(-1), 0, found)
        assert (found == (red_part + green_part + blue_part).astype(np.float32)).all()


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 150), st.integers(1, 50), st.integers(1, 30), st.integers(0, 2**32))
def test_a_sliding_mean_is_rounded_as_a_quotient(
    columns: int, rows: int, size: int, seed: int
) -> None:
    lines = np.random.default_rng(seed).uniform(0, 255, (rows + size, columns)).astype(np.float32)
    totals = lines[:size].sum(0, dtype=np.float32)
    expected, now = [], totals.copy()
    for row in range(rows):
        now = (now + lines[size + row]) - lines[row]
        expected.append(now / np.float32(size))
    means = np.empty((rows, columns), np.float32)
    sums.slide(lines, size, 0, totals, size, means)
    assert (means == np.array(expected)).all()
    assert (totals == now).all()


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_rows_become_columns(kind: type) -> None:
    for shape in ((1, 1), (16, 16), (17, 40), (40, 17), (5, 100), (64, 33)):
        lines = np.arange(np.prod(shape)).reshape(shape).astype(kind)
        turned = np.zeros(shape[::-1], kind)
        lanes.transpose(lines, turned)
        assert (turned == lines.T).all(), shape
