"""JPEG: bytes that lie, and decoding at a scale."""

import io
import math
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from download_site import picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline import jpeg_head
from pipeline.download import jpeg
from pipeline.download.reasons import FetchError

SCAN = b"\xff\xda"


def progressive(**changes: object) -> bytes:
    return picture(size=(64, 48), progressive=True, **changes)


def with_more_scans(raw: bytes, count: int) -> bytes:
    """The last scan of a progressive JPEG again and again."""
    last = raw[raw.rfind(SCAN) : -2]
    return raw[:-2] + last * count + raw[-2:]


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_picture() -> None:
    thumbnail = picture(size=(32, 32))
    app1 = b"\xff\xe1" + (len(thumbnail) + 8).to_bytes(2) + b"Exif\0\0" + thumbnail
    raw = picture(size=(400, 300))
    with_thumbnail = raw[:2] + app1 + raw[2:]
    assert jpeg.head(with_thumbnail).is_whole
    assert not jpeg.head(with_thumbnail[: len(with_thumbnail) // 2]).is_whole


def test_what_follows_the_end_of_a_jpeg_does_no_harm() -> None:
    assert jpeg.head(picture() + b"\xff\xda and more").is_whole


def test_as_many_scans_as_a_progressive_jpeg_may_have_are_well() -> None:
    raw = progressive()
    jpeg.head(with_more_scans(raw, jpeg.MAX_SCANS - raw.count(SCAN)))


def test_more_scans_than_that_are_refused_before_they_are_decoded() -> None:
    raw = progressive()
    with pytest.raises(FetchError, match="scans"):
        jpeg.head(with_more_scans(raw, jpeg.MAX_SCANS - raw.count(SCAN) + 1))


def test_what_looks_like_scans_behind_the_end_of_the_picture_does_no_harm() -> None:
    """A phone's moving picture has a film behind it."""
    jpeg.head(picture() + SCAN * 1000)


def test_what_looks_like_scans_within_a_segment_does_no_harm() -> None:
    raw = progressive()
    at = raw.rfind(SCAN)
    comment = b"\xff\xfe" + (2 + 2 * 1000).to_bytes(2) + SCAN * 1000
    jpeg.head(raw[:at] + comment + raw[at:])


@pytest.mark.parametrize(
    "filler",
    [b"\xff\x01" * 50_000, b"\xff" * 50_000, b"\xff\xfe\0\2" * 50_000, bytes(100_000)],
)
def test_a_header_that_would_be_read_byte_by_byte_for_minutes_is_refused(filler: bytes) -> None:
    raw = picture()
    with pytest.raises(FetchError, match="segments"):
        jpeg.head(raw[:2] + filler + raw[2:])


def test_a_scan_that_would_be_read_marker_by_marker_for_minutes_is_refused() -> None:
    raw = progressive()
    noise = SCAN[:1] + b"\xfe\0\2"
    with pytest.raises(FetchError):
        jpeg.head(raw[:-2] + (noise + SCAN + b"\0\2") * 50 + noise * 20_000 + SCAN * 100)


def test_a_long_but_honest_header_is_well() -> None:
    """20 MB of a colour profile in full segments."""
    raw = picture()
    segment = b"\xff\xe2" + (65_535).to_bytes(2) + bytes(65_533)
    jpeg.head(raw[:2] + segment * 300 + raw[2:])


@pytest.mark.parametrize(
    ("size", "target", "eighths"),
    [
        ((480, 640), (256, 341), 8),
        ((716, 716), (256, 256), 8),
        ((717, 717), (256, 256), 4),
        ((1200, 1600), (256, 341), 4),
        ((2000, 3000), (256, 384), 2),
        ((3000, 3001), (256, 256), 1),
        ((300, 300), (300, 300), 8),
    ],
)
def test_a_large_picture_is_decoded_at_a_scale_that_leaves_enough(
    size: tuple[int, int], target: tuple[int, int], eighths: int
) -> None:
    raw = picture(size=size[::-1])
    pixels, extent = jpeg.decode(raw, size, target)
    assert extent == (size[0] * eighths / 8, size[1] * eighths / 8)
    assert pixels.shape == (math.ceil(extent[0]), math.ceil(extent[1]), 4)


def test_the_pixels_are_those_that_pillow_decodes() -> None:
    raw = picture(size=(64, 48))
    pixels, _ = jpeg.decode(raw, (48, 64), (48, 64))
    theirs = np.asarray(Image.open(io.BytesIO(raw)))
    assert np.abs(pixels[..., :3].astype(int) - theirs).max() <= 1


def test_each_thread_decodes_into_memory_of_its_own() -> None:
    first, second = (picture(size=(64, 48), seed=seed) for seed in (1, 2))
    mine, _ = jpeg.decode(first, (48, 64), (48, 64))
    before = mine.copy()
    with ThreadPoolExecutor(1) as pool:
        theirs = pool.submit(lambda: jpeg.decode(second, (48, 64), (48, 64))[0].copy()).result()
    assert (mine == before).all()
    assert not (mine == theirs).all()


def test_a_picture_larger_than_what_is_kept_is_decoded_too() -> None:
    side = math.isqrt(jpeg.MAX_KEPT_BYTES // 4) + 1
    raw = picture(size=(side, side))
    pixels, _ = jpeg.decode(raw, (side, side), (side, side))
    kept, _ = jpeg.decode(picture(), (48, 64), (48, 64))
    assert pixels.shape == (side, side, 4)
    assert not np.shares_memory(pixels, kept)


def test_a_jpeg_of_another_size_than_was_looked_at_is_not_decoded() -> None:
    with pytest.raises(ValueError, match=re.escape("size")):
        jpeg.decode(picture(size=(64, 48)), (64, 48), (64, 48))


def test_a_stored_picture_has_a_quarter_of_its_colours() -> None:
    stored = jpeg.encode(np.zeros((32, 48, 3), np.uint8), 90)
    with Image.open(io.BytesIO(stored)) as image:
        assert image.layer[0][1:3] == (2, 2)  # type: ignore[attr-defined]
        assert image.size == (48, 32)


@settings(deadline=None)
@given(st.binary(max_size=600), st.lists(st.integers(0, 700), max_size=20))
def test_scans_are_counted_as_bytes_are(raw: bytes, places: list[int]) -> None:
    found = bytearray(raw)
    for place in places:
        found[place : place + 2] = SCAN
    assert jpeg_head._alike(np.frombuffer(bytes(found), np.uint8)) == bytes(found).count(SCAN)
