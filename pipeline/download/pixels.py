"""Pixels: a downloaded file to a JPEG of 8-bit RGB, upright, no larger than asked for.

Whether a picture is wanted is decided from its header, before a pixel of it is decoded. A plain
JPEG is decoded by libjpeg-turbo, at a lower scale where that is enough; whatever else there is, and
what libjpeg-turbo does not like, by Pillow.
"""

import io
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pipeline import hashes
from pipeline.download import jpeg
from pipeline.download.reasons import FetchError, describe, message
from pipeline.download.shrink import CHANNELS, shrink
from pipeline.kernels import Bytes
from pipeline.settings import DownloadSettings

_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
_JPEGS = ("JPEG", "MPO")  # an MPO is a JPEG with more pictures behind its end
_PLAIN_MODES = ("RGB", "L")
_ORIENTATION = 0x0112
_SWAPPED = (5, 6, 7, 8)
_MIRRORED = (2, 4, 5, 7)
_QUARTERS = {3: 2, 4: 2, 5: 1, 6: -1, 7: -1, 8: 1}
"""Quarters of a turn to the left, after mirroring, for an orientation of EXIF."""
_BAND = 64
"""Rows; in larger bands Pillow's pixels cost four times as much, in new pages of memory."""

Resized = tuple[bytes | None, int | None, int | None, int | None, int | None, str | None]
"""As img2dataset has it: JPEG, width, height, original width, original height, error."""


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
            return None, None, None, None, None, message(*_reason_for(error))

    def _resized(self, raw: bytes) -> Resized:
        """Raises FetchError."""
        jpeg.check(raw)
        with Image.open(io.BytesIO(raw), formats=_available(_FORMATS)) as image:
            self._check_size(*image.size)
            if image.format in _JPEGS and not jpeg.is_whole(raw):
                raise FetchError("truncated", "no end of image")
            size = image.height, image.width
            target = smaller(size, self._settings.image_side)
            pixels, eighths = _decoded(raw, image, target)
            orientation = _orientation(image)
        extent = size[0] * eighths / 8, size[1] * eighths / 8
        small = pixels[..., :3] if target == size else shrink(pixels, extent, target)
        upright = np.ascontiguousarray(_turned(small, orientation))
        height, width, _ = upright.shape
        original_height, original_width = reversed(size) if orientation in _SWAPPED else size
        picture = Picture(jpeg.encode(upright, self._settings.jpeg_quality))
        if self._settings.fingerprints:
            # Of these pixels and not of those that the JPEG gives: a small picture that was
            # downloaded without loss has the very digest of the same evaluation image.
            picture.fingerprint = hashes.of_pixels(upright)
        return picture, width, height, original_width, original_height, None

    def _check_size(self, width: int, height: int) -> None:
        size = f"{width}x{height}"
        if width * height > self._settings.max_pixels:
            raise FetchError("too many pixels", size)
        if min(width, height) < self._settings.min_side:
            raise FetchError("too small", size)
        if max(width, height) / min(width, height) > self._settings.max_aspect_ratio:
            raise FetchError("aspect ratio", size)


def smaller(size: tuple[int, int], side: int) -> tuple[int, int]:
    """`size` with the shorter side shrunk to `side`, rounded as img2dataset does it."""
    shorter = min(size)
    if shorter <= side:
        return size
    scale = side / shorter
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _decoded(raw: bytes, image: Image.Image, target: tuple[int, int]) -> tuple[Bytes, int]:
    """Rows and columns of pixels as stored, and the eighths of the picture's size that they are."""
    if image.format in _JPEGS and image.mode in _PLAIN_MODES:
        try:
            return jpeg.decode(raw, (image.height, image.width), target)
        except ValueError:  # of the web's JPEGs many have flaws that Pillow forgives
            pass
    image.load()
    pixels = np.empty((image.height, image.width, CHANNELS), np.uint8)
    # In bands, so that no more than the picture and its pixels are in memory at a time.
    for top in range(0, image.height, _BAND):
        bottom = min(top + _BAND, image.height)
        pixels[top:bottom] = _rgbx(image.crop((0, top, image.width, bottom)))
    return pixels, 8


def _orientation(image: Image.Image) -> int:
    """How the camera was held, as EXIF numbers it; asked once a picture is decoded, since Pillow
    may find EXIF behind the pixels, and turns a TIFF itself."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - broken EXIF is common, and the picture is none the worse
        return 1


def _turned(pixels: Bytes, orientation: int) -> Bytes:
    """Upright. What no orientation is, is upright."""
    if orientation in _MIRRORED:
        pixels = pixels[:, ::-1]
    return np.rot90(pixels, _QUARTERS.get(orientation, 0))


def _rgbx(image: Image.Image) -> Bytes:
    """8-bit RGB and a channel that says nothing; what is transparent is white, as on a page."""
    if image.mode.startswith("I"):
        image = Image.fromarray(_high_byte(np.asarray(image)))
    if image.mode == "F":
        raise FetchError("undecodable", "pixels are not integers")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return np.asarray(Image.alpha_composite(white, image))
    pixels = image.convert("RGB").tobytes("raw", "RGBX")
    return np.frombuffer(pixels, np.uint8).reshape(image.height, image.width, CHANNELS)


def _high_byte(gray: NDArray[np.integer]) -> Bytes:
    """16 bits of grey to 8: Pillow's own conversion cuts off instead of scaling."""
    return (gray.clip(0, 0xFFFF) // 256).astype(np.uint8)


def _available(formats: tuple[str, ...]) -> list[str]:
    Image.init()
    return [name for name in formats if name in Image.OPEN]


def _reason_for(error: Exception) -> tuple[str, str]:
    if isinstance(error, UnidentifiedImageError):
        return "undecodable", "no known format"
    reason = "truncated" if "truncated" in str(error).lower() else "undecodable"
    return reason, describe(error)
