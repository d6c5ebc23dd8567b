"""Decoding: an encoded image to pixels, whatever it claims to be."""

import io

from PIL import Image, ImageOps, UnidentifiedImageError

MAX_PIXELS = 100_000_000
"""Larger images are not decoded."""


def decode(data: bytes) -> Image.Image | None:
    """`data` as an RGB image the right way up, on white where it is transparent; None if broken."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_PIXELS:
                return None
            image.load()
            upright = ImageOps.exif_transpose(image)
            if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
                matted = upright.convert("RGBA")
                white = Image.new("RGBA", matted.size, "white")
                return Image.alpha_composite(white, matted).convert("RGB")
            return upright.convert("RGB")
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        TypeError,
        IndexError,
        KeyError,
        OverflowError,
        MemoryError,
    ):
        # What Pillow's decoders raise on hostile bytes.
        return None
