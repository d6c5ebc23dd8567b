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
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, TILELENGTH, TILEWIDTH, TiffImageFile

from pipeline import hashes
from pipeline.download import jpeg
from pipeline.download.reasons import FetchError, describe, message
from pipeline.download.shrink import CHANNELS, means, shrink, squares
from pipeline.kernels import Bytes
from pipeline.settings import DownloadSettings

_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
_HELD = {"WEBP": 3, "AVIF": 2}
"""How many times their decoders hold a picture: the limit of pixels is one of memory."""
_ORIENTATION = 0x0112
_SWAPPED = (5, 6, 7, 8)
_MIRRORED = (2, 4, 5, 7)
_QUARTERS = {3: 2, 4: 2, 5: 1, 6: -1, 7: -1, 8: 1}
"""Quarters of a turn to the left, after mirroring, for an orientation of EXIF."""
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
            return None, None, None, None, None, message(*_reason_for(error))

    def _resized(self, raw: bytes) -> Resized:
        """Raises FetchError."""
        small, size, orientation = self._small(raw, jpeg.head(raw))
        upright = np.ascontiguousarray(_turned(small, orientation))
        height, width, _ = upright.shape
        original_height, original_width = reversed(size) if orientation in _SWAPPED else size
        picture = Picture(jpeg.encode(upright, self._settings.jpeg_quality))
        if self._settings.fingerprints:
            # Of these pixels and not of those that the JPEG gives: a small picture that was
            # downloaded without loss has the very digest of the same evaluation image.
            picture.fingerprint = hashes.of_pixels(upright)
        return picture, width, height, original_width, original_height, None

    def _small(self, raw: bytes, head: jpeg.Head | None) -> _Small:
        """As libjpeg-turbo decodes it, or Pillow, which knows more and forgives many flaws."""
        if head is None or head.size is None:
            return self._other(raw, head)
        self._check(head.size, head)
        target = smaller(head.size, self._settings.image_side)
        try:
            pixels, extent = jpeg.decode(raw, head.size, target)
        except ValueError:
            return self._other(raw, head)
        return _shrunk(pixels, extent, target), head.size, _orientation(head.exif)

    def _other(self, raw: bytes, head: jpeg.Head | None) -> _Small:
        with Image.open(io.BytesIO(raw), formats=_available(_FORMATS)) as image:
            size = image.height, image.width
            self._check(size, head, _HELD.get(str(image.format), 1))
            if isinstance(image, TiffImageFile):
                self._check_pixels(_in_tiles(image))
            target = smaller(size, self._settings.image_side)
            pixels, extent = _decoded(image, target)
            # Asked once it is decoded: Pillow may find EXIF behind the pixels, and turns a TIFF
            # itself. Of a JPEG it would also ask the XMP, which the other decoder does not.
            orientation = _orientation(image if head is None else head.exif)
        return _shrunk(pixels, extent, target), size, orientation

    def _check(self, rows_columns: tuple[int, int], head: jpeg.Head | None, held: int = 1) -> None:
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


def _in_tiles(image: TiffImageFile) -> tuple[int, int]:
    """Rows and columns of a TIFF's tiles together. They may reach far beyond the picture, and each
    is decoded in whole: two megabytes of them can take hours."""
    tags = image.tag_v2
    rows, columns = tags.get(TILELENGTH, 1), tags.get(TILEWIDTH, 1)
    return -(-tags[IMAGELENGTH] // rows) * rows, -(-tags[IMAGEWIDTH] // columns) * columns


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


def _orientation(source: Image.Image | bytes) -> int:
    """How the camera was held, as EXIF numbers it."""
    try:
        if isinstance(source, Image.Image):
            exif = source.getexif()
        else:
            exif = Image.Exif()
            exif.load(source)
        return int(exif.get(_ORIENTATION, 1))
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
