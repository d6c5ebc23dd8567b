"""Hashes: what an image is known by.

pHash (64 bits, as imagehash) proposes, PDQ (256 bits, as Facebook's ThreatExchange) confirms, and
the digest of the pixels decides where an image is too flat for either.
"""

import hashlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from pipeline import pdq, phash
from pipeline.kernels import Bytes

if TYPE_CHECKING:
    from imagehash import ImageHash


class Fingerprint(NamedTuple):
    """What an image is known by. The names are those of the columns."""

    phash: int
    pdq: bytes
    quality: int
    pixels_sha256: str


def of_image(image: Image.Image, *, fast: bool = False) -> Fingerprint:
    """The fingerprint of an RGB image. See `of_pixels`."""
    return of_pixels(np.asarray(image), fast=fast)


def of_pixels(pixels: Bytes, *, fast: bool = False) -> Fingerprint:
    """The fingerprint of `pixels`: rows, columns, and red, green and blue in 8 bits.

    `fast` gives a pHash that may differ from imagehash's in a bit or two (`phash.phash_fast`).
    """
    pixels = np.ascontiguousarray(pixels)
    height, width, _ = pixels.shape
    bits = phash.phash_fast(pixels) if fast else phash.phash(pixels)
    pdq_bits, quality = pdq.compute(pixels)
    digest = hashlib.sha256(f"{width}x{height}:".encode())
    digest.update(pixels.data)
    return Fingerprint(bits, pdq_bits, quality, digest.hexdigest())


def as_imagehash(bits: int) -> "ImageHash":
    """A pHash as the imagehash package holds it, to be compared or written as its users do."""
    import imagehash  # with scipy, which workers that download do without

    return imagehash.hex_to_hash(f"{bits & (1 << 64) - 1:016x}")


def of_imagehash(found: "ImageHash") -> int:
    """The signed number of a pHash of imagehash's. Raises ValueError when it has not 64 bits."""
    if found.hash.size != 64:
        raise ValueError(f"a pHash has 64 bits, and not {found.hash.size}: take hash_size=8")
    return int.from_bytes(np.packbits(found.hash.ravel()).tobytes(), "big", signed=True)
