"""Hashes: ours beside the packages that they are named after."""

import hashlib
import io

import imagehash
import numpy as np
import pytest
from download_photos import photo
from PIL import Image

from pipeline import hashes
from pipeline.kernels import Bytes


def pictures() -> list[Bytes]:
    chance = np.random.default_rng(0)
    sides = [*chance.integers(5, 400, (40, 2)).tolist(), (64, 64), (64, 65), (5, 5), (129, 1000)]
    noise = [chance.integers(0, 256, (*side, 3), dtype=np.uint8) for side in sides]
    smooth = [np.asarray(Image.fromarray(n).resize((341, 256))) for n in noise[:20]]
    flat = [np.full((*side, 3), value, np.uint8) for value, side in enumerate(sides)]
    ramp = np.arange(256, dtype=np.uint8)
    downward = np.tile(ramp[:, None, None], (1, 100, 3))
    return [*noise, *smooth, *flat, downward, downward.swapaxes(0, 1).copy()]


def test_the_phash_is_that_of_imagehash_to_the_bit() -> None:
    for pixels in pictures():
        told = f"{hashes.of_pixels(pixels).phash % 2**64:016x}"
        assert told == str(imagehash.phash(Image.fromarray(pixels))), pixels.shape


def test_a_phash_goes_to_imagehash_and_back() -> None:
    for bits in (0, 1, -1, -(2**63), 2**63 - 1, 0x0F0F):
        assert hashes.of_imagehash(hashes.as_imagehash(bits)) == bits
    pixels = pictures()[0]
    other = imagehash.phash(Image.fromarray(pixels))
    assert hashes.as_imagehash(hashes.of_pixels(pixels).phash) - other == 0
    with pytest.raises(ValueError, match="256"):
        hashes.of_imagehash(imagehash.phash(Image.fromarray(pixels), hash_size=16))


def test_a_fast_fingerprint_differs_in_no_more_than_bits_of_its_phash() -> None:
    pixels = np.asarray(Image.open(io.BytesIO(photo((300, 200)))))
    exact, fast = hashes.of_pixels(pixels), hashes.of_pixels(pixels, fast=True)
    assert fast == exact._replace(phash=fast.phash) == hashes.of_pixels(pixels, fast=True)
    assert (fast.phash ^ exact.phash).bit_count() <= 2


def test_the_digest_is_of_the_size_and_the_pixels() -> None:
    wide = np.arange(90, dtype=np.uint8).reshape(5, 6, 3)
    tall = wide.reshape(6, 5, 3)
    told = hashlib.sha256(b"6x5:" + wide.tobytes()).hexdigest()
    assert hashes.of_pixels(wide).pixels_sha256 == told
    assert hashes.of_pixels(tall).pixels_sha256 != told


def test_pixels_that_lie_apart_in_memory_are_the_same_picture() -> None:
    every = np.random.default_rng(0).integers(0, 256, (60, 80, 4), dtype=np.uint8)
    apart, together = every[..., :3], every[..., :3].copy()
    assert hashes.of_pixels(apart) == hashes.of_pixels(together)
    assert hashes.of_image(Image.fromarray(together)) == hashes.of_pixels(apart)


def test_a_photo_has_quality() -> None:
    image = Image.open(io.BytesIO(photo((300, 200))))
    assert hashes.of_image(image).quality == 100
