"""Images: whether one can be decoded to its last line."""

import simplejpeg

from pipeline import jpeg_head
from pipeline.decoding import MAX_PIXELS, Undecodable, decoded

WARNED = "warned of"
"""Decoded, by guessing what the file should have been."""


def flaw(data: bytes) -> tuple[str, str] | None:
    """Why there is no whole picture in `data`: a reason, one of decoding.REASONS or WARNED, and the
    detail. None when there is."""
    warning = ""
    try:
        head = jpeg_head.head(data)
        if head is not None:
            if not head.is_whole:
                return "truncated", "a JPEG without its end"
            if head.size is not None and head.size[0] * head.size[1] <= MAX_PIXELS:
                warning = _warning(data)
                if not warning:
                    return None
        decoded(data)
    except Undecodable as error:
        return error.reason if data else "empty", error.detail
    return (WARNED, warning) if warning else None


def _warning(data: bytes) -> str:
    """What libjpeg-turbo says against a JPEG; nothing when it is flawless.

    At an eighth and in grey all its coefficients are read, and that is where flaws are: the rest is
    arithmetic, and nine tenths of the time.
    """
    try:
        simplejpeg.decode_jpeg(data, "GRAY", min_height=1, min_width=1, min_factor=8)
    except ValueError as error:
        return str(error) or "flawed"
    return ""
