"""Hashes: what an image is known by.

pHash (64 bits, as imagehash) proposes, PDQ (256 bits, as Facebook's ThreatExchange) confirms, and
the digest of the pixels decides where an image is too flat for either.
"""

import hashlib
from typing import NamedTuple

import imagehash
import numpy as np
from PIL import Image

from pipeline import pdq
from pipeline.kernels import Bytes, kernel


class Fingerprint(NamedTuple):
    """What an image is known by. The names are those of the columns."""

    phash: int
    pdq: bytes
    quality: int
    pixels_sha256: str


def of_image(image: Image.Image) -> Fingerprint:
    """The fingerprint of an RGB image."""
    return of_pixels(np.asarray(image))


def of_pixels(pixels: Bytes) -> Fingerprint:
    """The fingerprint of rows and columns of red, green and blue."""
    pixels = np.ascontiguousarray(pixels)
    height, width, _ = pixels.shape
    # Pillow itself resizes: its filters' order is its own.
    bits = imagehash.phash(Image.fromarray(_grey(pixels))).hash.flatten()
    pdq_bits, quality = pdq.compute(pixels)
    digest = hashlib.sha256(f"{width}x{height}:".encode())
    digest.update(pixels.data)
    return Fingerprint(
        phash=int.from_bytes(np.packbits(bits).tobytes(), "big", signed=True),
        pdq=pdq_bits,
        quality=quality,
        pixels_sha256=digest.hexdigest(),
    )


@kernel
def _grey(pixels: Bytes) -> Bytes:
    """As Pillow's conversion to L has it: ITU-R 601-2 in 16 bits."""
    height, width, _ = pixels.shape
    grey = np.empty((height, width), np.uint8)
    for y in range(height):
        for x in range(width):
            red, green, blue = pixels[y, x, 0], pixels[y, x, 1], pixels[y, x, 2]
            grey[y, x] = (red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16
    return grey
