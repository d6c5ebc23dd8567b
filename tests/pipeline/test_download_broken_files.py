"""Broken files: whatever the bytes, there is a picture or a reason."""

import io

import numpy as np
import pytest
from download_site import picture
from PIL import Image

from pipeline.download.pixels import PixelResizer, Resized
from pipeline.download.reasons import REASONS, reason_of
from pipeline.settings import DownloadSettings

FILES = {
    "plain": ("JPEG", {}),
    "progressive": ("JPEG", {"progressive": True}),
    "many colours": ("JPEG", {"subsampling": 0}),
    "PNG": ("PNG", {}),
    "WEBP": ("WEBP", {}),
    "GIF": ("GIF", {}),
    "BMP": ("BMP", {}),
    "TIFF": ("TIFF", {}),
    "AVIF": ("AVIF", {}),
}


def resized(raw: bytes) -> Resized:
    settings = DownloadSettings(image_side=32, max_pixels=1_000_000)
    return PixelResizer(settings)(io.BytesIO(raw))


def _is_sound(found: Resized) -> bool:
    jpeg, width, height, *_, error_message = found
    if error_message is not None:
        return reason_of(error_message) in REASONS and found[:5] == (None,) * 5
    with Image.open(io.BytesIO(jpeg or b"")) as image:
        image.load()
        is_smaller = min(image.size) <= 32
        return image.size == (width, height) and is_smaller and None not in found[:5]


@pytest.mark.parametrize("name", FILES)
def test_noise_in_a_file_never_raises(name: str) -> None:
    """A picture that crashed its decoder would end the shard of ten thousand it is in."""
    kind, save = FILES[name]
    exif = Image.Exif()
    exif[0x0112] = 6
    raw = np.frombuffer(picture(kind, exif=exif, **save), np.uint8)
    chance = np.random.default_rng(0)
    for turn in range(60):
        broken = raw.copy()
        # The more telling bytes come first.
        at = chance.integers(0, len(raw) if turn % 2 else 200, 1 + turn % 8)
        broken[at] = chance.integers(0, 256, len(at))
        found = resized(broken.tobytes())
        assert _is_sound(found)
        assert resized(broken.tobytes()) == found


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_off_anywhere_never_raises(name: str) -> None:
    kind, save = FILES[name]
    raw = picture(kind, **save)
    for end in np.linspace(0, len(raw) - 1, 40).astype(int).tolist():
        assert _is_sound(resized(raw[:end]))


@pytest.mark.parametrize("name", FILES)
def test_a_file_with_a_piece_doubled_or_lost_never_raises(name: str) -> None:
    kind, save = FILES[name]
    raw = picture(kind, **save)
    chance = np.random.default_rng(1)
    for _ in range(40):
        first, second = sorted(chance.integers(0, len(raw), 2).tolist())
        assert _is_sound(resized(raw[:first] + raw[second:]))
        assert _is_sound(resized(raw[:second] + raw[first:]))
