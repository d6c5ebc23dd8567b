"""Hashes: what an image is known by.

pHash (64 bits, as imagehash) proposes, PDQ (256 bits, as Facebook's ThreatExchange) confirms, and
the digest of the pixels decides where an image is too flat for either.
"""

import hashlib
from typing import NamedTuple

import imagehash
import numpy as np
import numpy.typing as npt
import pdqhash
from PIL import Image


class Fingerprint(NamedTuple):
    """What an image is known by. The names are those of the columns."""

    phash: int
    pdq: bytes
    quality: int
    pixels_sha256: str


def of_image(image: Image.Image) -> Fingerprint:
    """The fingerprint of an RGB image."""
    return _fingerprint(image, np.asarray(image))


def of_pixels(pixels: npt.NDArray[np.uint8]) -> Fingerprint:
    """The same, of rows and columns of red, green and blue."""
    return _fingerprint(Image.fromarray(pixels), pixels)


def _fingerprint(image: Image.Image, pixels: npt.NDArray[np.uint8]) -> Fingerprint:
    bits = imagehash.phash(image).hash.flatten()
    # Pixels without any detail have no quality and an arbitrary hash.
    pdq_bits, quality = pdqhash.compute(pixels)
    digest = hashlib.sha256(f"{image.width}x{image.height}:".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return Fingerprint(
        phash=int.from_bytes(np.packbits(bits).tobytes(), "big", signed=True),
        pdq=np.packbits(pdq_bits.astype(bool)).tobytes(),
        quality=int(quality),
        pixels_sha256=digest.hexdigest(),
    )
