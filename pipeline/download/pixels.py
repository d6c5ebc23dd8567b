"""Pixels: a downloaded file to a JPEG of 8-bit RGB, upright, no larger than asked for.

Whether a picture is wanted is decided from its header, before a pixel of it is decoded.
img2dataset's resizer decodes, shrinks and encodes what is plain; what is not (other modes, depths
and formats, a turned camera) is made plain first.
"""

import io
from typing import BinaryIO

import numpy as np
from img2dataset.resizer import Resizer
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.download.reasons import FetchError, describe, message
from pipeline.settings import DownloadSettings

_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
_JPEGS = ("JPEG", "MPO")  # an MPO is a JPEG with more pictures behind its end
_PLAIN_FORMATS = (*_JPEGS, "WEBP")
_ORIENTATION = 0x0112
_UPRIGHT = (0, 1)

Resized = tuple[bytes | None, int | None, int | None, int | None, int | None, str | None]
"""As img2dataset has it: JPEG, width, height, original width, original height, error."""


class PixelResizer(Resizer):  # type: ignore[misc]
    """img2dataset's resizer, for every kind of picture."""

    def __init__(self, settings: DownloadSettings) -> None:
        super().__init__(
            image_size=settings.image_side,
            resize_mode="keep_ratio",
            resize_only_if_bigger=True,
            downscale_interpolation="area",
            encode_quality=settings.jpeg_quality,
            encode_format="jpg",
        )
        self._settings = settings
        # Pillow warns of large pictures when it opens them; ours have their own limit.
        Image.MAX_IMAGE_PIXELS = None

    def __call__(self, img_stream: BinaryIO, blurring_bbox_list: None = None) -> Resized:
        try:
            plain = self._plain(img_stream.read())
        except FetchError as error:
            return None, None, None, None, None, str(error)
        except Exception as error:  # noqa: BLE001 - decoders raise whatever they like
            return None, None, None, None, None, message(*_reason_for(error))
        *resized, error_message = super().__call__(io.BytesIO(plain), blurring_bbox_list)
        if error_message is not None:
            error_message = message("undecodable", error_message)
        jpeg, width, height, original_width, original_height = resized
        return jpeg, width, height, original_width, original_height, error_message

    def _plain(self, raw: bytes) -> bytes:
        """`raw`, or the same picture as an upright 8-bit RGB bitmap. Raises FetchError."""
        with Image.open(io.BytesIO(raw), formats=_available(_FORMATS)) as image:
            self._check_size(*image.size)
            if image.format in _JPEGS and not is_whole_jpeg(raw):
                raise FetchError("truncated", "no end of image")
            is_turned = _is_turned(image)
            is_moving = image.format == "WEBP" and getattr(image, "is_animated", False)
            is_plain = image.format in _PLAIN_FORMATS and image.mode == "RGB"
            if is_plain and not is_turned and not is_moving:
                return raw
            upright = ImageOps.exif_transpose(image) if is_turned else image
            bitmap = io.BytesIO()
            _rgb(upright).save(bitmap, "BMP")
        return bitmap.getvalue()

    def _check_size(self, width: int, height: int) -> None:
        size = f"{width}x{height}"
        if width * height > self._settings.max_pixels:
            raise FetchError("too many pixels", size)
        if min(width, height) < self._settings.min_side:
            raise FetchError("too small", size)
        if max(width, height) / min(width, height) > self._settings.max_aspect_ratio:
            raise FetchError("aspect ratio", size)


def is_whole_jpeg(raw: bytes) -> bool:
    """Whether the scan that begins a JPEG's picture is followed by an end of image.

    Decoders paint what is missing grey and call it a success. Segments are skipped by their
    length, since an EXIF thumbnail has an end of image of its own.
    """
    at = 2
    while at + 4 <= len(raw) and raw[at] == 0xFF:
        marker = raw[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker == 0xDA:
            return raw.rfind(b"\xff\xd9", at) >= 0
        elif marker == 0x01 or 0xD0 <= marker <= 0xD7:  # without a length
            at += 2
        else:
            at += 2 + int.from_bytes(raw[at + 2 : at + 4])
    return raw.rfind(b"\xff\xd9") > raw.rfind(b"\xff\xda")


def _is_turned(image: Image.Image) -> bool:
    """Whether EXIF says that the camera was not upright."""
    try:
        return image.getexif().get(_ORIENTATION, 1) not in _UPRIGHT
    except Exception:  # noqa: BLE001 - broken EXIF is common, and the picture is none the worse
        return False


def _rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB; what is transparent is white, as on a page."""
    if image.mode.startswith("I"):
        image = Image.fromarray(_high_byte(np.asarray(image)))
    if image.mode == "F":
        raise FetchError("undecodable", "pixels are not integers")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _high_byte(gray: NDArray[np.integer]) -> NDArray[np.uint8]:
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
