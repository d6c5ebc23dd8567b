"""Pixels: what becomes of every kind of file."""

import io
import struct
import zlib

import numpy as np
import pytest
import simplejpeg
from download_photos import photo
from download_site import picture
from PIL import Image, ImageOps

from pipeline.download.pixels import PixelResizer, Resized
from pipeline.download.reasons import REASONS, reason_of
from pipeline.settings import DownloadSettings

RED, BLUE = (200, 30, 20), (20, 30, 200)


def resized(raw: bytes, **changes: object) -> Resized:
    return PixelResizer(DownloadSettings(**changes))(io.BytesIO(raw))  # type: ignore[arg-type]


def opened(raw: bytes, **changes: object) -> Image.Image:
    jpeg, width, height, *_, error_message = resized(raw, **changes)
    assert error_message is None
    assert jpeg is not None
    image = Image.open(io.BytesIO(jpeg))
    image.load()
    assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (width, height))
    return image


def refusal(raw: bytes, **changes: object) -> str:
    *_, error_message = resized(raw, **changes)
    assert error_message is not None
    reason = reason_of(error_message)
    assert reason in REASONS
    assert reason != "unexpected"
    return reason


def saved(image: Image.Image, kind: str, **save: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **save)
    return file.getvalue()


def two_colours(width: int = 60, height: int = 40) -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (width // 2, 0, width, height))
    return image


def tiled_tiff(size: int, tile: tuple[int, int]) -> bytes:
    """A grey square; all of its tiles are the same bytes."""
    width, length = tile
    count = -(-size // width) * -(-size // length)
    stored = zlib.compress(bytes(width * length))
    lists = 8 + 2 + 10 * 12 + 4
    tags = {256: size, 257: size, 258: 8, 259: 8, 262: 1, 277: 1, 322: width, 323: length}
    entries = [(tag, 1, value) for tag, value in tags.items()]
    entries += [(324, count, lists), (325, count, lists + 4 * count)]
    directory = b"".join(struct.pack("<HHLL", tag, 4, n, value) for tag, n, value in entries)
    offsets = [lists + 8 * count] * count
    listed = struct.pack(f"<{2 * count}L", *offsets, *[len(stored)] * count)
    return struct.pack("<2sHLH", b"II", 42, 8, 10) + directory + bytes(4) + listed + stored


def is_near(pixel: object, colour: tuple[int, ...], by: int = 12) -> bool:
    return np.abs(np.subtract(pixel, colour)).max() <= by  # type: ignore[call-overload]


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises `width` by `height` pixels, and holds none."""

    def chunk(name: bytes, payload: bytes) -> bytes:
        crc = zlib.crc32(name + payload)
        return struct.pack(">I", len(payload)) + name + payload + struct.pack(">I", crc)

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_the_shorter_side_is_shrunk_and_the_ratio_kept() -> None:
    assert opened(picture(size=(640, 480)), image_side=96).size == (128, 96)


def test_a_small_picture_is_not_enlarged() -> None:
    assert opened(picture(size=(64, 48))).size == (64, 48)


def test_the_original_size_is_told() -> None:
    _, width, height, original_width, original_height, _ = resized(
        picture(size=(640, 480)), image_side=96
    )
    assert (width, height, original_width, original_height) == (128, 96, 640, 480)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_every_format_keeps_its_colours(kind: str) -> None:
    image = opened(saved(two_colours(), kind))
    assert is_near(image.getpixel((10, 20)), RED)
    assert is_near(image.getpixel((50, 20)), BLUE)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("CMYK", "JPEG"), ("CMYK", "TIFF"), ("P", "PNG"), ("P", "GIF"), ("RGBA", "PNG")],
)
def test_every_mode_becomes_rgb(mode: str, kind: str) -> None:
    picture = two_colours()
    image = opened(saved(picture.quantize(2) if mode == "P" else picture.convert(mode), kind))
    assert is_near(image.getpixel((10, 20)), RED)


@pytest.mark.parametrize(("mode", "kind"), [("L", "JPEG"), ("L", "PNG"), ("LA", "PNG")])
def test_grey_becomes_rgb(mode: str, kind: str) -> None:
    image = opened(saved(Image.new(mode, (40, 40), 90 if mode == "L" else (90, 255)), kind))
    assert is_near(image.getpixel((20, 20)), (90, 90, 90))


def test_black_and_white_becomes_rgb() -> None:
    image = opened(saved(Image.new("1", (40, 40), 1), "PNG"))
    assert is_near(image.getpixel((20, 20)), (255, 255, 255))


def test_sixteen_bits_are_scaled_and_not_cut_off() -> None:
    grey = Image.fromarray(np.full((40, 40), 100 << 8, np.uint16))
    assert is_near(opened(saved(grey, "PNG")).getpixel((20, 20)), (100, 100, 100))


def test_what_is_transparent_is_white() -> None:
    image = opened(saved(Image.new("RGBA", (40, 40), (0, 0, 0, 0)), "PNG"))
    assert is_near(image.getpixel((20, 20)), (255, 255, 255))


def test_a_transparent_palette_is_white_too() -> None:
    palette = Image.new("P", (40, 40), 0)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    image = opened(saved(palette, "GIF", transparency=0))
    assert is_near(image.getpixel((20, 20)), (255, 255, 255))


def test_the_first_frame_of_a_moving_picture_is_taken() -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in (RED, BLUE)]
    for kind in ("GIF", "WEBP"):
        raw = saved(frames[0], kind, save_all=True, append_images=frames[1:])
        assert is_near(opened(raw).getpixel((20, 20)), RED)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_turned_camera_gives_an_upright_picture(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees: left becomes top
    image = opened(saved(two_colours(60, 40), kind, exif=exif))
    assert image.size == (40, 60)
    assert is_near(image.getpixel((20, 10)), RED)
    assert is_near(image.getpixel((20, 50)), BLUE)


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_every_orientation_is_turned_as_pillow_turns_it(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    corners = two_colours(60, 40)
    corners.paste((240, 240, 240), (0, 0, 20, 15))
    raw = saved(corners, kind, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(raw))).convert("RGB")
    ours = opened(raw)
    assert ours.size == upright.size
    # The stored picture has a quarter of its colours, which shows at edges.
    assert np.abs(np.asarray(ours, int) - np.asarray(upright, int)).mean() < 6
    assert resized(raw)[3:5] == upright.size


def test_a_large_photo_is_turned_too() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = opened(saved(two_colours(900, 600), "JPEG", exif=exif), image_side=100)
    assert image.size == (100, 150)
    assert is_near(image.getpixel((50, 10)), RED)
    assert is_near(image.getpixel((50, 140)), BLUE)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("size", [(640, 480), (427, 640), (1601, 1203)])
def test_a_shrunk_picture_is_near_pillows(kind: str, size: tuple[int, int]) -> None:
    raw = photo(size, kind)
    ours = opened(raw)
    theirs = Image.open(io.BytesIO(raw)).convert("RGB").resize(ours.size, Image.Resampling.LANCZOS)
    apart = np.asarray(ours, int) - np.asarray(theirs, int)
    assert (apart**2).mean() < 65025 / 10**3.6  # a PSNR of 36


def test_a_jpeg_with_garbage_before_its_end_is_forgiven() -> None:
    raw = picture(size=(64, 48))
    with pytest.raises(ValueError, match="extraneous"):
        simplejpeg.decode_jpeg(raw[:-2] + b"garbage" + raw[-2:])
    image = opened(raw[:-2] + b"garbage" + raw[-2:])
    clean = opened(raw)
    assert np.asarray(image).tobytes() == np.asarray(clean).tobytes()


def test_a_jpeg_with_a_hole_in_it_costs_no_more_than_the_hole() -> None:
    """Browsers show what there is."""
    raw = photo((400, 300))
    with_hole = raw[: len(raw) * 3 // 4] + raw[-2:]
    upper = [np.asarray(opened(file), int)[:100] for file in (raw, with_hole)]
    assert np.abs(upper[0] - upper[1]).max() <= 1


def test_a_jpeg_of_too_many_scans_is_undecodable() -> None:
    raw = picture(size=(64, 48), progressive=True)
    last = raw[raw.rfind(b"\xff\xda") : -2]
    *_, error_message = resized(raw[:-2] + last * 200 + raw[-2:])
    assert error_message == "undecodable: more than 100 scans"


def test_broken_exif_does_not_cost_the_picture() -> None:
    raw = saved(two_colours(), "JPEG", exif=b"Exif\0\0no TIFF at all")
    assert is_near(opened(raw).getpixel((10, 20)), RED)


def test_a_second_picture_behind_the_first_changes_nothing() -> None:
    raw = saved(two_colours(), "MPO", save_all=True, append_images=[Image.new("RGB", (60, 40))])
    assert is_near(opened(raw).getpixel((10, 20)), RED)


def test_both_decoders_of_jpegs_turn_a_picture_alike() -> None:
    """Pillow would read an orientation in XMP, which browsers do not."""
    xmp = b'<x tiff:Orientation="6"/>'
    for image in (two_colours(), two_colours().convert("CMYK")):
        raw = saved(image, "JPEG", xmp=xmp)
        assert xmp in raw
        assert opened(raw).size == (60, 40)


def test_the_same_file_gives_the_same_bytes() -> None:
    raw = picture(size=(640, 480))
    assert resized(raw) == resized(raw)


# -- refused -------------------------------------------------------------------------------


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    assert refusal(png_header(25_000, 25_000)) == "too many pixels"


def test_what_a_decoder_holds_several_times_counts_so_often() -> None:
    large, small = (100, 64), (60, 40)
    opened(picture("PNG", size=large), max_pixels=10_000)
    for kind in ("WEBP", "AVIF"):
        assert refusal(picture(kind, size=large), max_pixels=10_000) == "too many pixels"
        opened(picture(kind, size=small), max_pixels=10_000)


def test_tiles_far_larger_than_their_picture_are_not_decoded() -> None:
    """Each is decoded in whole: two megabytes of them can take hours."""
    opened(tiled_tiff(size=32, tile=(16, 48)), max_pixels=2_000)
    assert refusal(tiled_tiff(size=32, tile=(16, 80)), max_pixels=2_000) == "too many pixels"


def test_a_tiny_picture_is_too_small() -> None:
    assert refusal(picture(size=(100, 15))) == "too small"


def test_a_banner_is_refused_for_its_ratio() -> None:
    assert refusal(picture(size=(400, 20))) == "aspect ratio"


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_without_its_end_is_truncated(share: float, progressive: bool) -> None:
    raw = picture(size=(400, 300), progressive=progressive)
    assert refusal(raw[: int(len(raw) * share)]) == "truncated"


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP"])
def test_another_file_without_its_end_has_no_picture(kind: str) -> None:
    raw = picture(kind, size=(400, 300))
    assert refusal(raw[: len(raw) // 2]) in ("truncated", "undecodable")


@pytest.mark.parametrize(
    "raw", [b"", b"x", b"<html></html>", b"\xff\xd8\xff", b"%!PS-Adobe", b"<svg/>"]
)
def test_what_is_no_picture_is_undecodable(raw: bytes) -> None:
    assert refusal(raw) == "undecodable"


def test_pixels_that_are_not_integers_are_undecodable() -> None:
    assert refusal(saved(Image.new("F", (40, 40), 0.5), "TIFF")) == "undecodable"


def test_an_error_names_nothing_that_changes_from_run_to_run() -> None:
    *_, error_message = resized(b"not a picture")
    assert error_message == "undecodable: no known format"
