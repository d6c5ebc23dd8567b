"""JPEG: what its bytes tell without decoding, and its pixels, at a scale that costs less."""

import re
import threading
from typing import NamedTuple

import numpy as np
import simplejpeg

from pipeline.download.reasons import FetchError
from pipeline.download.shrink import CHANNELS
from pipeline.kernels import Bytes, kernel

_SOI, _SCAN, _END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
_EXIF = b"Exif\0\0"
_COLOURS = ("YCbCr", "RGB", "Gray")
_WITHOUT_LENGTH = (0x01, *range(0xD0, 0xD8))
# In a scan 0xff is followed by 0, or by the number of a restart.
_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")

MAX_SEGMENTS = 10_000
"""Of a file; 20 MB need 306 when they are full."""
MAX_JUNK = 1 << 16
"""Bytes between two segments, which decoders skip one by one."""
MAX_SCANS = 100
"""A progressive JPEG has some ten. Each may take 50 bytes and yet walk through the whole picture,
which at 50 million pixels takes 9 ms or more."""
MAX_KEPT_BYTES = 1 << 24
"""Of memory, from one picture to the next."""

_SCALES = (1, 2, 4)
"""Eighths at which libjpeg-turbo has fast code: at others a picture takes as long as in full."""
_SPARE = 1.4
"""How much larger than what is wanted a picture is decoded at least: scaled decoding is a poor
filter, and at 1.2 the picture is further from the ideal than that of OpenCV's INTER_AREA."""


class Head(NamedTuple):
    """What a JPEG says of itself before a pixel of it is decoded."""

    size: tuple[int, int] | None
    """Rows and columns; None where libjpeg-turbo does not know it, or its colours are CMYK."""
    exif: bytes
    is_whole: bool
    """Whether the scan that begins the picture is followed by an end of image: decoders paint what
    is missing grey and call it a success."""


def head(raw: bytes) -> Head | None:
    """None of another file. Raises FetchError for what would keep a decoder busy for minutes."""
    if not raw.startswith(_SOI):
        return None
    first, exif = _segments(raw)
    # What looks like the beginning of a scan may be part of anything behind the picture's end.
    if first is not None and _alike(np.frombuffer(raw, np.uint8)[first:]) > MAX_SCANS:
        _count_scans(raw, first)
    begins = raw.rfind(_SCAN) if first is None else first
    try:
        rows, columns, colours, _ = simplejpeg.decode_jpeg_header(raw)
    except ValueError:
        colours = None
    size = (rows, columns) if colours in _COLOURS else None
    return Head(size, exif, raw.rfind(_END) > begins)


class _Room(threading.local):
    """Memory of this thread for one picture: to get pages anew for each costs a third of the
    decoding."""

    def __init__(self) -> None:
        self._kept: Bytes = np.empty(0, np.uint8)

    def of(self, size: int) -> Bytes:
        if size > MAX_KEPT_BYTES:
            return np.empty(size, np.uint8)
        if size > len(self._kept):
            self._kept = np.empty(size, np.uint8)
        return self._kept[:size]


_room = _Room()


def decode(
    raw: bytes, size: tuple[int, int], target: tuple[int, int]
) -> tuple[Bytes, tuple[float, float]]:
    """The pixels, with a fourth channel, of a JPEG of `size` rows and columns that is to become
    `target`, and how many rows and columns of them are the picture. They last until this thread
    decodes the next one. Raises ValueError if anything is amiss."""
    enough = [m for m in _SCALES if m * min(size) >= 8 * _SPARE * min(target)]
    eighths = min(enough, default=8)
    height, width = (-(-side * eighths // 8) for side in size)
    room = _room.of(height * width * CHANNELS)
    pixels: Bytes = simplejpeg.decode_jpeg(
        raw, "RGBX", min_height=height, min_width=width, buffer=room
    )
    if pixels.shape[:2] != (height, width):
        raise ValueError("its size is not the one that its head told")
    return pixels, (size[0] * eighths / 8, size[1] * eighths / 8)


def encode(pixels: Bytes, quality: int) -> bytes:
    """RGB as a JPEG."""
    # A quarter of the colours, as OpenCV and Pillow have it.
    encoded: bytes = simplejpeg.encode_jpeg(pixels, quality, "RGB", "420")
    return encoded


def _segments(raw: bytes) -> tuple[int | None, bytes]:
    """Where the first scan begins, None if the file ends before, and the EXIF. Raises FetchError.

    Segments are skipped by their length, since a thumbnail has scans and an end of its own.
    """
    at, exif = len(_SOI), b""
    for _ in range(MAX_SEGMENTS):
        marker = raw.find(b"\xff", at)
        if marker < 0 or marker + 4 > len(raw):
            return None, exif
        if marker - at > MAX_JUNK:
            raise FetchError("undecodable", "junk between segments")
        at = marker + 1
        if raw[at] == _SCAN[1]:
            return marker, exif
        if raw[at] in _WITHOUT_LENGTH:
            at += 1
        elif raw[at] not in (0x00, 0xFF):  # stuffed, or a fill byte
            end = at + 1 + int.from_bytes(raw[at + 1 : at + 3])
            if raw.startswith(_EXIF, at + 3) and not exif:
                exif = raw[at + 3 : end]
            at = end
    raise FetchError("undecodable", "too many segments")


@kernel
def _alike(scans: Bytes) -> int:
    """How many times the two bytes of a scan's beginning stand there."""
    found = 0
    for at in range(len(scans) - 1):
        found += (scans[at] == 0xFF) & (scans[at + 1] == 0xDA)
    return found


def _count_scans(raw: bytes, first: int) -> None:
    """Raises FetchError where there are too many."""
    at, scans = first, 0
    for _ in range(MAX_SEGMENTS):
        marker = _MARKER.search(raw, at)
        if marker is None or marker[0] == _END:
            return
        scans += marker[0] == _SCAN
        if scans > MAX_SCANS:
            raise FetchError("undecodable", f"more than {MAX_SCANS} scans")
        at = marker.end()
        if marker[1][0] not in _WITHOUT_LENGTH:
            at += int.from_bytes(raw[at : at + 2])
    raise FetchError("undecodable", "too many segments")
