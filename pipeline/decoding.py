"""Decoding: an encoded image to upright 8-bit RGB, whatever it claims to be.

What a file may cost is decided from its header, before a pixel of it is decoded.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, TILELENGTH, TILEWIDTH, TiffImageFile

from pipeline import jpeg_head
from pipeline.jpeg_head import Undecodable as Undecodable
from pipeline.kernels import Bytes

REASONS = ("too many pixels", "truncated", "undecodable")
"""Why there are no pixels."""
MAX_PIXELS = 50_000_000
"""Of an image that is decoded, times HELD: the limit is one of memory."""
WEB_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
FORMATS = (*WEB_FORMATS, "PPM")
"""Those of evaluation sets too. Pillow knows more, some of which run other programs."""
HELD = {"WEBP": 3, "AVIF": 2, "PPM": 3}
"""How many times their decoders hold a picture."""
_LEAST_SIDE = 32
"""What a shorter side costs: PDQ pads lines to whole registers."""

_ORIENTATION = 0x0112
_MIRRORED = (2, 4, 5, 7)
_QUARTERS = {3: 2, 4: 2, 5: 1, 6: -1, 7: -1, 8: 1}
"""Quarters of a turn to the left, after mirroring, for an orientation of EXIF."""
_XMP = ("xmp", "XML:com.adobe.xmp", "Raw profile type xmp")


def decode(data: bytes) -> Image.Image | None:
    """`data` as `decoded` has it; None if it cannot be decoded."""
    try:
        return decoded(data)
    except Undecodable:
        return None


def decoded(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """`data` as an RGB image of 8 bits, the right way up as its EXIF has it, on white where it is
    transparent; the first frame of a moving one. Raises Undecodable, whose `reason` is one of
    REASONS."""
    # Pillow warns of large pictures when it opens them; ours have their own limit.
    Image.MAX_IMAGE_PIXELS = None
    try:
        head = jpeg_head.head(data)
        with Image.open(io.BytesIO(data), formats=available(FORMATS)) as image:
            sides = max(image.height, _LEAST_SIDE), max(image.width, _LEAST_SIDE)
            _check(sides, max_pixels // HELD.get(str(image.format), 1))
            _check(stored(image), max_pixels)
            image.load()
            shown = rgb(image)
            # Asked once it is decoded: EXIF may be behind the pixels, and Pillow turns a TIFF.
            how = orientation(image if head is None else head.exif)
    except Undecodable:
        raise
    except Exception as error:
        # Decoders raise whatever they like.
        raise Undecodable(*reason_for(error)) from error
    return shown if how == 1 else Image.fromarray(turned(np.asarray(shown), how))


def stored(image: Image.Image) -> tuple[int, int]:
    """Rows and columns that are decoded: of a TIFF those of its tiles together. They may reach far
    beyond the picture, and each is decoded in whole: two megabytes of them can take hours."""
    if not isinstance(image, TiffImageFile):
        return image.height, image.width
    tags = image.tag_v2
    rows, columns = tags.get(TILELENGTH, 1), tags.get(TILEWIDTH, 1)
    return -(-tags[IMAGELENGTH] // rows) * rows, -(-tags[IMAGEWIDTH] // columns) * columns


def rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB; what is transparent is white, as on a page."""
    if image.mode.startswith("I"):
        image = Image.fromarray(_high_byte(np.asarray(image)))
    if image.mode == "F":
        raise Undecodable("undecodable", "pixels are not integers")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def orientation(source: Image.Image | bytes) -> int:
    """How the camera was held, as EXIF numbers it: that of an image, or of the bytes of EXIF."""
    try:
        if isinstance(source, Image.Image):
            # Pillow would look there too, and browsers do not.
            for name in _XMP:
                source.info.pop(name, None)
            exif = source.getexif()
        else:
            exif = Image.Exif()
            exif.load(source)
        return int(exif.get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - broken EXIF is common, and the picture is none the worse
        return 1


def turned(pixels: Bytes, orientation: int) -> Bytes:
    """Upright. What no orientation is, is upright."""
    if orientation in _MIRRORED:
        pixels = pixels[:, ::-1]
    return np.rot90(pixels, _QUARTERS.get(orientation, 0))


def available(formats: tuple[str, ...]) -> list[str]:
    """Those of `formats` that this Pillow was built with."""
    Image.init()
    return [name for name in formats if name in Image.OPEN]


def reason_for(error: Exception) -> tuple[str, str]:
    """The reason, one of REASONS, and the detail of what a decoder raised."""
    if isinstance(error, Undecodable):
        return error.reason, error.detail
    if isinstance(error, UnidentifiedImageError):
        return "undecodable", "no known format"
    reason = "truncated" if "truncated" in str(error).lower() else "undecodable"
    return reason, f"{type(error).__name__} {error}"


def _check(rows_columns: tuple[int, int], most: int) -> None:
    height, width = rows_columns
    if width * height > most:
        raise Undecodable("too many pixels", f"{width}x{height}")


def _high_byte(gray: NDArray[np.integer]) -> Bytes:
    """16 bits of grey to 8: Pillow's own conversion cuts off instead of scaling."""
    return (gray.clip(0, 0xFFFF) // 256).astype(np.uint8)
