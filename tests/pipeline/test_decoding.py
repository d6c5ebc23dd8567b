"""Decoding: every kind of file, and bytes that lie."""

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from test_download_pixels import png_header, tiled_tiff

from pipeline import decoding, jpeg_head

RED, BLUE = (200, 30, 20), (20, 30, 200)


def saved(image: Image.Image, kind: str = "PNG", **save: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **save)  # type: ignore[arg-type]
    return file.getvalue()


def two_colours(width: int = 60, height: int = 40) -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (width // 2, 0, width, height))
    return image


def is_near(pixel: object, colour: tuple[int, ...], by: int = 12) -> bool:
    return bool(np.abs(np.subtract(pixel, colour)).max() <= by)  # type: ignore[call-overload]


def reason(raw: bytes, **limits: int) -> str:
    with pytest.raises(decoding.Undecodable) as caught:
        decoding.decoded(raw, **limits)
    assert caught.value.reason in decoding.REASONS
    return caught.value.reason


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM"])
def test_every_format_becomes_rgb_with_its_colours(kind: str) -> None:
    image = decoding.decoded(saved(two_colours(), kind))
    assert (image.mode, image.size) == ("RGB", (60, 40))
    assert is_near(image.getpixel((10, 20)), RED)
    assert is_near(image.getpixel((50, 20)), BLUE)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "LAB"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    kind = "PNG" if mode in ("1", "L", "LA", "P", "RGBA") else "TIFF"
    picture = Image.new("RGB", (9, 7), "white")
    profiled = Image.new("LAB", (9, 7), (255, 128, 128)) if mode == "LAB" else picture.convert(mode)
    image = decoding.decoded(saved(profiled, kind))
    assert image.mode == "RGB"
    assert is_near(image.getpixel((4, 3)), (255, 255, 255))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_of_grey_are_scaled_and_not_cut_off(kind: str) -> None:
    grey = Image.fromarray(np.full((4, 4), 100 << 8, np.uint16))
    assert decoding.decoded(saved(grey, kind)).getpixel((2, 2)) == (100, 100, 100)


def test_pixels_that_are_not_integers_are_undecodable() -> None:
    assert reason(saved(Image.new("F", (4, 4), 0.5), "TIFF")) == "undecodable"


def test_what_is_transparent_is_white_and_what_is_half_is_half_white() -> None:
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    image.putpixel((1, 0), (255, 0, 0, 128))
    shown = decoding.decoded(saved(image))
    assert shown.getpixel((0, 0)) == (255, 255, 255)
    assert is_near(shown.getpixel((1, 0)), (255, 127, 127), by=1)


@pytest.mark.parametrize("transparency", [0, bytes([0, 255])])
def test_a_palette_with_transparency_is_white_there(transparency: object) -> None:
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.putpixel((1, 0), 1)
    shown = decoding.decoded(saved(palette, transparency=transparency))
    assert [shown.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (255, 0, 0)]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_a_moving_picture_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in (RED, BLUE)]
    raw = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    assert is_near(decoding.decoded(raw).getpixel((20, 20)), RED)


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_every_orientation_is_turned_as_pillow_turns_it(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    corners = two_colours()
    corners.paste((240, 240, 240), (0, 0, 20, 15))
    raw = saved(corners, kind, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(raw))).convert("RGB")
    assert decoding.decoded(raw).tobytes() == upright.tobytes()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_an_orientation_in_xmp_turns_nothing(kind: str) -> None:
    """Browsers do not look there either."""
    xmp = b'<x tiff:Orientation="6"/>'
    if kind == "PNG":
        text = b"XML:com.adobe.xmp\0\0\0\0\0" + xmp
        raw = with_chunk(saved(two_colours()), b"iTXt", text)
    else:
        raw = saved(two_colours(), kind, xmp=xmp)
    assert ImageOps.exif_transpose(Image.open(io.BytesIO(raw))).size == (40, 60)
    assert decoding.decoded(raw).size == (60, 40)


def with_chunk(png: bytes, name: bytes, payload: bytes) -> bytes:
    crc = struct.pack(">I", zlib.crc32(name + payload))
    return png[:33] + struct.pack(">I", len(payload)) + name + payload + crc + png[33:]


def test_broken_exif_does_not_cost_the_picture() -> None:
    raw = saved(two_colours(), "JPEG", exif=b"Exif\0\0no TIFF at all")
    assert decoding.decoded(raw).size == (60, 40)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
def test_one_pixel_is_a_picture(kind: str) -> None:
    assert decoding.decoded(saved(Image.new("RGB", (1, 1), RED), kind)).size == (1, 1)


# -- refused -------------------------------------------------------------------------------


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    assert reason(png_header(25_000, 25_000)) == "too many pixels"


def test_what_a_decoder_holds_several_times_counts_so_often() -> None:
    image = two_colours(100, 64)
    decoding.decoded(saved(image), max_pixels=10_000)
    for kind in ("WEBP", "AVIF"):
        assert reason(saved(image, kind), max_pixels=10_000) == "too many pixels"


def test_tiles_far_larger_than_their_picture_are_not_decoded() -> None:
    decoding.decoded(tiled_tiff(size=32, tile=(16, 48)), max_pixels=2_000)
    assert reason(tiled_tiff(size=32, tile=(16, 80)), max_pixels=2_000) == "too many pixels"


def test_a_jpeg_of_too_many_scans_is_undecodable() -> None:
    raw = saved(two_colours(), "JPEG", progressive=True)
    last = raw[raw.rfind(b"\xff\xda") : -2]
    assert reason(raw[:-2] + last * (jpeg_head.MAX_SCANS + 1) + raw[-2:]) == "undecodable"


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_without_its_end_is_truncated(share: float, progressive: bool) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    raw = saved(Image.fromarray(noise), "JPEG", progressive=progressive)
    assert reason(raw[: int(len(raw) * share)]) == "truncated"


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF", "PPM"])
def test_half_of_another_file_has_no_picture(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8)
    raw = saved(Image.fromarray(noise), kind)
    assert reason(raw[: len(raw) // 2]) in ("truncated", "undecodable")


@pytest.mark.parametrize(
    "raw", [b"", b"x", b"<html></html>", b"\xff\xd8\xff", b"%!PS-Adobe-3.0", b"<svg/>", bytes(999)]
)
def test_what_is_no_picture_is_undecodable(raw: bytes) -> None:
    assert reason(raw) in ("undecodable", "truncated")
    assert decoding.decode(raw) is None


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"]), st.data())
def test_any_damage_gives_pixels_or_a_reason(kind: str, data: st.DataObject) -> None:
    raw = bytearray(saved(two_colours(20, 10), kind))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    image = None
    with contextlib.suppress(decoding.Undecodable):
        image = decoding.decoded(bytes(raw), max_pixels=1_000_000)
    assert image is None or (image.mode == "RGB" and image.width * image.height <= 1_000_000)
