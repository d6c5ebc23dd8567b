"""Pixels: an encoded image -> the square of pixels that a model sees.

Knows no torch: the processes that decode do not wait for it.
"""

import io

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from pipeline import decoding, jpeg_head
from pipeline.decoding import Undecodable

Pixels = npt.NDArray[np.uint8]

# Images are already decoded side by side; more threads within one would only wait for each other.
cv2.setNumThreads(1)

_FAST = 2
"""The least shrinking that a decoder does faster than we do afterwards: between 1 and 2 libjpeg's
transforms have no SIMD (measured: docs/performance.md)."""
_SMOOTH = 1.5
"""Where shrinking further needs every pixel: OpenCV's cubic looks at four in a row."""

_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
"""Pillow's own limit; whether it warns or fails is the process's choice."""


def random_square(data: bytes, side: int, draw: float) -> Pixels:
    """HWC: a square as large as the image allows, at `draw` in [0, 1) along the longer side.

    Raises Undecodable, with its reason.
    """
    image = _decoded(data, side)
    height, width = image.shape[:2]
    edge = min(height, width)
    top, left = int(draw * (height - edge + 1)), int(draw * (width - edge + 1))
    square = image[top : top + edge, left : left + edge]
    if edge == side:
        return np.ascontiguousarray(square)
    how = cv2.INTER_AREA if edge > side * _SMOOTH else cv2.INTER_CUBIC
    return cv2.resize(square, (side, side), interpolation=how).astype(np.uint8, copy=False)


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


def _decoded(data: bytes, side: int) -> Pixels:
    """Upright RGB, already shrunk where that is fast, with no side shorter than `side` by it."""
    head = jpeg_head.head(data)
    if head is None or head.size is None:
        return np.asarray(decoding.decoded(data))
    if head.size[0] * head.size[1] > decoding.MAX_PIXELS:
        raise Undecodable("too many pixels", f"{head.size[1]}x{head.size[0]}")
    try:
        image: Pixels = simplejpeg.decode_jpeg(
            data, "RGB", min_height=side, min_width=side, min_factor=_FAST
        )
    except ValueError:
        # libjpeg-turbo has doubts about it; what Pillow reads none the less is an image.
        return np.asarray(decoding.decoded(data))
    how = decoding.orientation(head.exif) if head.exif else 1
    return image if how == 1 else decoding.turned(image, how)


def _opened(data: bytes) -> Image.Image:
    """RGB as OpenAI's preprocessing has it: not turned upright, and black where transparent."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > decoding.MAX_PIXELS:
                raise Undecodable("too many pixels", f"{image.width}x{image.height}")
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, *_BOMBS) as error:
        raise Undecodable("undecodable", str(error)) from None
