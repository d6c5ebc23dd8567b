"""Pixels: an encoded image -> the square of pixels that a model sees.

Knows no torch: the processes that decode do not wait for it.
"""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline import decoding, jpeg_head, jpeg_pixels
from pipeline.decoding import Undecodable
from pipeline.kernels import Bytes
from pipeline.shrink import CHANNELS, shrink

Pixels = npt.NDArray[np.uint8]

_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
"""Pillow's own limit; whether it warns or fails is the process's choice."""


def random_square(data: bytes, side: int, draw: float, out: Pixels | None = None) -> Pixels:
    """HWC: a square as large as the image allows, at `draw` in [0, 1) along the longer side.

    It is resized as Pillow's antialiased bicubic does it, within a level, and written into `out`
    where that is given. Raises Undecodable, with its reason.
    """
    pixels, (height, width) = _decoded(data, side)
    edge = min(height, width)
    # Of a picture decoded at a scale the last row and column may be a part of a pixel.
    spare_rows, spare_columns = int(height - edge), int(width - edge)
    top, left = int(draw * (spare_rows + 1)), int(draw * (spare_columns + 1))
    if edge == side:
        square = pixels[top : top + side, left : left + side, :3]
        if out is None:
            return np.ascontiguousarray(square)
        out[:] = square
        return out
    return shrink(pixels, (edge, edge), (side, side), (top, left), out)


def centre_square(data: bytes, side: int) -> Pixels:
    """HWC: the middle of the image, resized as OpenAI's released preprocessing does it.

    Raises Undecodable.
    """
    image = _opened(data)
    width, height = image.size
    shorter = min(width, height)
    size = (int(side * width / shorter), int(side * height / shorter))
    image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = round((size[0] - side) / 2), round((size[1] - side) / 2)
    return np.asarray(image.crop((left, top, left + side, top + side)))


def _decoded(data: bytes, side: int) -> tuple[Bytes, tuple[float, float]]:
    """Upright RGB and a fourth channel, already shrunk where that is fast; and how many rows and
    columns of it are the picture. It lasts until this thread decodes the next one."""
    head = jpeg_head.head(data)
    if head is None or head.size is None:
        return _rgbx(decoding.decoded(data))
    if head.size[0] * head.size[1] > decoding.MAX_PIXELS:
        raise Undecodable("too many pixels", f"{head.size[1]}x{head.size[0]}")
    try:
        pixels, extent = jpeg_pixels.decode(data, head.size, (side, side))
    except ValueError:
        # libjpeg-turbo has doubts about it; what Pillow reads none the less is an image.
        return _rgbx(decoding.decoded(data))
    how = decoding.orientation(head.exif) if head.exif else 1
    if how == 1:
        return pixels, extent
    upright = np.ascontiguousarray(decoding.turned(pixels, how))
    # A part of a pixel is now at another edge: so little that it counts as none.
    return upright, upright.shape[:2]


def _rgbx(image: Image.Image) -> tuple[Bytes, tuple[float, float]]:
    pixels = np.frombuffer(image.tobytes("raw", "RGBX"), np.uint8)
    return pixels.reshape(image.height, image.width, CHANNELS), (image.height, image.width)


def _opened(data: bytes) -> Image.Image:
    """RGB as OpenAI's preprocessing has it: not turned upright, and black where transparent."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > decoding.MAX_PIXELS:
                raise Undecodable("too many pixels", f"{image.width}x{image.height}")
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, *_BOMBS) as error:
        raise Undecodable("undecodable", str(error)) from None
