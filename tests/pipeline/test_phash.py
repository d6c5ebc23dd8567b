"""pHash: beside imagehash, at every size."""

import io

import imagehash
import numpy as np
import pytest
import scipy.fftpack
from download_photos import photo
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline import phash
from pipeline.kernels import Bytes

SIDES = st.integers(1, 130) | st.integers(1, 700)


def noise(height: int, width: int, seed: int = 0) -> Bytes:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def by_package(pixels: Bytes) -> int:
    return int(str(imagehash.phash(Image.fromarray(pixels))), 16)


def unsigned(found: int) -> int:
    assert -(2**63) <= found < 2**63
    return found % 2**64


def small_by_pillow(grey: Bytes) -> Bytes:
    size = phash.SMALL, phash.SMALL
    return np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.LANCZOS))


@settings(deadline=None, max_examples=150)
@given(SIDES, SIDES, st.integers(0, 2**32))
@example(1, 1, 0)
@example(1, 2000, 0)
@example(2000, 1, 0)
@example(30, 2000, 0)
@example(2000, 30, 0)
@example(32, 32, 0)
@example(5000, 40, 0)
@example(40, 5000, 0)
def test_every_size_is_shrunk_to_pillows_own_pixels(height: int, width: int, seed: int) -> None:
    grey = noise(height, width, seed)[..., 0].copy()
    assert (phash._small(grey) == small_by_pillow(grey)).all()


@pytest.mark.parametrize("width", [33, 40, 100, 320])
def test_pillows_passes_change_places_at_the_same_height(width: int) -> None:
    """A rounding after each pass: the order shows."""
    for height in range(2 * width - 34, 2 * width - 29):
        grey = noise(height, width)[..., 0].copy()
        assert (phash._small(grey) == small_by_pillow(grey)).all(), (height, width)


def bits_that_are_no_noise(pixels: Bytes) -> int:
    """A mask of the terms that are not the median but for the rounding of 64 bits."""
    small = small_by_pillow(np.asarray(Image.fromarray(pixels).convert("L")))
    terms = scipy.fftpack.dct(scipy.fftpack.dct(small, axis=0), axis=1)[:8, :8]
    apart = np.abs(terms - np.median(terms)).ravel() > 1e-6
    return int.from_bytes(np.packbits(apart).tobytes())


@settings(deadline=None, max_examples=150)
@given(SIDES, SIDES, st.integers(0, 2**32))
def test_the_bits_are_those_of_imagehash_where_those_are_no_noise(
    height: int, width: int, seed: int
) -> None:
    pixels = noise(height, width, seed)
    certain = bits_that_are_no_noise(pixels)
    assert certain == 2**64 - 1 or min(height, width) < 8
    assert unsigned(phash.phash(pixels)) & certain == by_package(pixels) & certain


@pytest.mark.parametrize("size", [(320, 240), (240, 320), (1000, 90), (24, 20), (64, 64)])
def test_the_bits_of_photos_are_those_of_imagehash(size: tuple[int, int]) -> None:
    pixels = np.asarray(Image.open(io.BytesIO(photo(size))).convert("RGB"))
    assert unsigned(phash.phash(pixels)) == by_package(pixels)


@settings(deadline=None, max_examples=50)
@given(SIDES, SIDES, st.integers(0, 255))
def test_an_image_of_one_grey_has_one_bit_wherever_floats_round(
    height: int, width: int, value: int
) -> None:
    pixels = np.full((height, width, 3), value, np.uint8)
    expected = 1 << 63 if value else 0
    assert unsigned(phash.phash(pixels)) == expected
    assert unsigned(phash.phash_fast(pixels)) == expected


def test_terms_that_are_equal_but_for_rounding_are_on_the_same_side() -> None:
    """A picture that is its own mirror has no odd terms, and half of the terms are odd."""
    half = noise(64, 32)
    mirrored = np.concatenate([half, half[:, ::-1]], 1)
    bits = f"{unsigned(phash.phash(mirrored)):064b}"
    odd = [bits[8 * row + column] for row in range(8) for column in range(1, 8, 2)]
    assert set(odd) == {"0"} or set(odd) == {"1"}


def test_every_colour_is_as_grey_as_pillow_makes_it() -> None:
    steps = np.arange(0, 256, 5, dtype=np.uint8)
    every = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(52, -1, 3)
    assert (phash.grey(every) == np.asarray(Image.fromarray(every).convert("L"))).all()


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(1, 70), st.integers(0, 2**32))
def test_grey_ends_where_the_pixels_end(height: int, width: int, seed: int) -> None:
    pixels = noise(height, width, seed)
    assert (phash.grey(pixels) == np.asarray(Image.fromarray(pixels).convert("L"))).all()


def test_the_fast_hash_of_a_photo_is_at_most_two_bits_away() -> None:
    for size in ((320, 240), (256, 256), (200, 500), (40, 33)):
        pixels = np.asarray(Image.open(io.BytesIO(photo(size))).convert("RGB"))
        apart = phash.phash_fast(pixels) ^ phash.phash(pixels)
        assert unsigned(apart).bit_count() <= 2, size


def test_the_fast_hash_of_very_long_images_is_the_other() -> None:
    pixels = noise(3, 5000)
    assert phash.phash_fast(pixels) == phash.phash(pixels)


def test_a_jpeg_is_hashed_at_a_scale_to_nearly_the_same_bits() -> None:
    for size in ((320, 240), (900, 700), (66, 64), (50, 40), (1, 1)):
        raw = photo(size)
        full = np.asarray(Image.open(io.BytesIO(raw)).convert("RGB"))
        apart = phash.phash_of_jpeg(raw) ^ phash.phash(full)
        assert unsigned(apart).bit_count() <= 6, size


@pytest.mark.parametrize("raw", [b"", b"no JPEG", photo((64, 48))[:300], photo((64, 48), "PNG")])
def test_what_is_no_whole_jpeg_raises(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        phash.phash_of_jpeg(raw)


@pytest.mark.parametrize("fast", [False, True])
def test_a_batch_is_hashed_as_one_by_one_in_its_order(fast: bool) -> None:
    images = [noise(*side, seed=seed) for seed, side in enumerate([(40, 50), (9, 8), (40, 50)])]
    one_by_one = [(phash.phash_fast if fast else phash.phash)(pixels) for pixels in images]
    assert phash.phash_batch(images, fast=fast).tolist() == one_by_one
    assert phash.phash_batch([]).tolist() == []
