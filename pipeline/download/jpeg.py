"""JPEG: what its bytes tell without decoding, and its pixels, at a scale that costs less."""

import simplejpeg

from pipeline import jpeg_head, room
from pipeline.download.reasons import FetchError
from pipeline.jpeg_pixels import decode as decode
from pipeline.kernels import Bytes

MAX_SCANS = jpeg_head.MAX_SCANS
MAX_KEPT_BYTES = room.MAX_KEPT_BYTES


def head(raw: bytes) -> jpeg_head.Head | None:
    """None of another file. Raises FetchError for what would keep a decoder busy for minutes."""
    try:
        return jpeg_head.head(raw)
    except jpeg_head.Undecodable as error:
        raise FetchError(error.reason, error.detail) from error


def encode(pixels: Bytes, quality: int) -> bytes:
    """RGB as a JPEG."""
    # A quarter of the colours, as OpenCV and Pillow have it.
    encoded: bytes = simplejpeg.encode_jpeg(pixels, quality, "RGB", "420")
    return encoded
