"""JPEG's head: what its bytes tell before a pixel is decoded."""

import re
from typing import NamedTuple

import numpy as np
import simplejpeg

from pipeline.kernels import Bytes, kernel

_SOI, _SCAN, _END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
_EXIF = b"Exif\0\0"
_COLOURS = ("YCbCr", "RGB", "Gray")
_STRETCH = 128
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


class Undecodable(Exception):
    """There are no pixels, for one of `decoding.REASONS`."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class Head(NamedTuple):
    """What a JPEG says of itself before a pixel of it is decoded."""

    size: tuple[int, int] | None
    """Rows and columns; None where libjpeg-turbo does not know it, or its colours are CMYK."""
    exif: bytes
    is_whole: bool
    """Whether the scan that begins the picture is followed by an end of image: decoders paint what
    is missing grey and call it a success."""


def head(raw: bytes) -> Head | None:
    """None of another file. Raises Undecodable for what would keep a decoder busy for minutes."""
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


def _segments(raw: bytes) -> tuple[int | None, bytes]:
    """Where the first scan begins, None if the file ends before, and the EXIF. Raises Undecodable.

    Segments are skipped by their length, since a thumbnail has scans and an end of its own.
    """
    at, exif = len(_SOI), b""
    for _ in range(MAX_SEGMENTS):
        marker = raw.find(b"\xff", at)
        if marker < 0 or marker + 4 > len(raw):
            return None, exif
        if marker - at > MAX_JUNK:
            raise Undecodable("undecodable", "junk between segments")
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
    raise Undecodable("undecodable", "too many segments")


@kernel
def _alike(scans: Bytes) -> int:
    """How many times the two bytes of a scan's beginning stand there."""
    found, last = 0, len(scans) - 1
    for stretch in range(last // _STRETCH):
        begin = stretch * _STRETCH
        first, second = scans[begin : begin + _STRETCH], scans[begin + 1 : begin + _STRETCH + 1]
        # So few that their count is a byte: the machine then looks at dozens of places at once.
        few = np.uint8(0)
        for at in range(_STRETCH):
            is_scan = (first[at] == np.uint8(0xFF)) & (second[at] == np.uint8(0xDA))
            few = np.uint8(few + np.uint8(is_scan))
        found += few
    for at in range(last // _STRETCH * _STRETCH, last):
        found += (scans[at] == 0xFF) & (scans[at + 1] == 0xDA)
    return found


def _count_scans(raw: bytes, first: int) -> None:
    """Raises Undecodable where there are too many."""
    at, scans = first, 0
    for _ in range(MAX_SEGMENTS):
        marker = _MARKER.search(raw, at)
        if marker is None or marker[0] == _END:
            return
        scans += marker[0] == _SCAN
        if scans > MAX_SCANS:
            raise Undecodable("undecodable", f"more than {MAX_SCANS} scans")
        at = marker.end()
        if marker[1][0] not in _WITHOUT_LENGTH:
            at += int.from_bytes(raw[at : at + 2])
    raise Undecodable("undecodable", "too many segments")
