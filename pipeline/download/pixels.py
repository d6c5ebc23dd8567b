"""Pixels: a downloaded file to a JPEG of 8-bit RGB, upright, no larger than asked for.

Whether a picture is wanted is decided from its header, before a pixel of it is decoded. A plain
JPEG is decoded by libjpeg-turbo, at a lower scale where that is enough; whatever else there is, and
what libjpeg-turbo does not like, by Pillow.
"""

import io
from typing import BinaryIO

import numpy as np
from PIL import Image

from pipeline import decoding, hashes
from pipeline.download import jpeg
from pipeline.download.reasons import FetchError, message
from pipeline.jpeg_head import Head
from pipeline.kernels import Bytes
from pipeline.settings import DownloadSettings
from pipeline.shrink import CHANNELS, means, shrink, squares

_SWAPPED = (5, 6, 7, 8)
_BAND = 64
"""Rows; in larger bands Pillow's pixels cost four times as much, in new pages of memory."""

Resized = tuple[bytes | None, int | None, int | None, int | None, int | None, str | None]
"""As img2dataset has it: JPEG, width, height, original width, original height, error."""
_Small = tuple[Bytes, tuple[int, int], int]
"""Pixels of the size that is wanted, the rows and columns of the file, and its orientation."""


class Picture(bytes):
    """A JPEG, with the fingerprint that its pixels had before it was encoded."""

    fingerprint: hashes.Fingerprint | None = None


class PixelResizer:
    """Stands in for img2dataset's Resizer, for every kind of picture."""

    def __init__(self, settings: DownloadSettings) -> None:
        self._settings = settings
        # Pillow warns of large pictures when it opens them; ours have their own limit.
        Image.MAX_IMAGE_PIXELS = None

    def __call__(
        self,
        img_stream: BinaryIO,
        blurring_bbox_list: None = None,  # noqa: ARG002
    ) -> Resized:
        try:
            return self._resized(img_stream.read())
        except FetchError as error:
            return None, None, None, None, None, str(error)
        except Exception as error:  # noqa: BLE001 - decoders raise whatever they like
            return None, None, None, None, None, message(*decoding.reason_for(error))

    def _resized(self, raw: bytes) -> Resized:
        """Raises FetchError."""
        small, size, orientation = self._small(raw, jpeg.head(raw))
        upright = np.ascontiguousarray(decoding.turned(small, orientation))
        height, width, _ = upright.shape
        original_height, original_width = reversed(size) if orientation in _SWAPPED else size
        picture = Picture(jpeg.encode(upright, self._settings.jpeg_quality))
        if self._settings.fingerprints:
            # Of these pixels and not of those that the JPEG gives: a small picture that was
            # downloaded without loss has the very digest of the same evaluation image.
            picture.fingerprint = hashes.of_pixels(upright)
        return picture, width, height, original_width, original_height, None

    def _small(self, raw: bytes, head: Head | None) -> _Small:
        """As libjpeg-turbo decodes it, or Pillow, which knows more and forgives many flaws."""
        if head is None or head.size is None:
            return self._other(raw, head)
        self._check(head.size, head)
        target = smaller(head.size, self._settings.image_side)
        try:
            pixels, extent = jpeg.decode(raw, head.size, target)
        except ValueError:
            return self._other(raw, head)
        return _shrunk(pixels, extent, target), head.size, decoding.orientation(head.exif)

    def _other(self, raw: bytes, head: Head | None) -> _Small:
        with Image.open(io.BytesIO(raw), formats=decoding.available(decoding.WEB_FORMATS)) as image:
            size = image.height, image.width
            self._check(size, head, decoding.HELD.get(str(image.format), 1))
            self._check_pixels(decoding.stored(image))
            target = smaller(size, self._settings.image_side)
            pixels, extent = _decoded(image, target)
            # Asked once it is decoded: Pillow may find EXIF behind the pixels, and turns a TIFF
            # itself. Of a JPEG it would also ask the XMP, which the other decoder does not.
            orientation = decoding.orientation(image if head is None else head.exif)
        return _shrunk(pixels, extent, target), size, orientation

    def _check(self, rows_columns: tuple[int, int], head: Head | None, held: int = 1) -> None:
        """Raises FetchError for what is not worth decoding."""
        self._check_pixels(rows_columns, held)
        height, width = rows_columns
        size = f"{width}x{height}"
        if min(width, height) < self._settings.min_side:
            raise FetchError("too small", size)
        if max(width, height) / min(width, height) > self._settings.max_aspect_ratio:
            raise FetchError("aspect ratio", size)
        if head is not None and not head.is_whole:
            raise FetchError("truncated", "no end of image")

    def _check_pixels(self, rows_columns: tuple[int, int], held: int = 1) -> None:
        height, width = rows_columns
        if width * height * held > self._settings.max_pixels:
            raise FetchError("too many pixels", f"{width}x{height}")


def smaller(size: tuple[int, int], side: int) -> tuple[int, int]:
    """`size` with the shorter side shrunk to `side`, rounded as img2dataset does it."""
    shorter = min(size)
    if shorter <= side:
        return size
    scale = side / shorter
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _decoded(image: Image.Image, target: tuple[int, int]) -> tuple[Bytes, tuple[float, float]]:
    """Pixels as stored, or the means of their squares where those are enough, and how many rows
    and columns of them are the picture."""
    image.load()
    side = squares((image.height, image.width), target)
    rows, columns = -(-image.height // side), -(-image.width // side)
    pixels = np.empty((rows, columns, CHANNELS), np.uint8)
    # In bands, so that a large picture is in memory once.
    band = max(1, _BAND // side)
    for top in range(0, rows, band):
        bottom = min(image.height, (top + band) * side)
        part = _rgbx(image.crop((0, top * side, image.width, bottom)))
        pixels[top : top + band] = means(part, side) if side > 1 else part
    return pixels, (image.height / side, image.width / side)


def _shrunk(pixels: Bytes, extent: tuple[float, float], target: tuple[int, int]) -> Bytes:
    return pixels[..., :3] if extent == target else shrink(pixels, extent, target)


def _rgbx(image: Image.Image) -> Bytes:
    """8-bit RGB and a channel that says nothing."""
    pixels = decoding.rgb(image).tobytes("raw", "RGBX")
    return np.frombuffer(pixels, np.uint8).reshape(image.height, image.width, CHANNELS)
