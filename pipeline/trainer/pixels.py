"""Pixels: an encoded image -> the square of pixels that a model sees."""

import io

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
import torch
from PIL import Image
from torch import Tensor

Pixels = npt.NDArray[np.uint8]

# Images are already decoded side by side; more threads within one would only wait for each other.
cv2.setNumThreads(1)

_MAX_PIXELS = 50_000_000
"""Larger images are refused before they are decoded."""

_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
"""Pillow's own limit; whether it warns or fails is the process's choice."""

_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)
"""CLIP's, over its corpus; the released weights expect them."""


class Undecodable(Exception):
    """The bytes are no image that can be read."""


def random_square(data: bytes, side: int, draw: float) -> Pixels:
    """HWC: a square as large as the image allows, at `draw` in [0, 1) along the longer side."""
    image = _decoded(data, side)
    height, width = image.shape[:2]
    edge = min(height, width)
    top, left = int(draw * (height - edge + 1)), int(draw * (width - edge + 1))
    square = image[top : top + edge, left : left + edge]
    if edge == side:
        return np.ascontiguousarray(square)
    # OpenCV's cubic does not smooth what it shrinks.
    how = cv2.INTER_AREA if edge > side else cv2.INTER_CUBIC
    return cv2.resize(square, (side, side), interpolation=how).astype(np.uint8, copy=False)


def centre_square(data: bytes, side: int) -> Pixels:
    """HWC: the middle of the image, resized as OpenAI's released preprocessing does it."""
    image = _opened(data)
    width, height = image.size
    shorter = min(width, height)
    size = (int(side * width / shorter), int(side * height / shorter))
    image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = round((size[0] - side) / 2), round((size[1] - side) / 2)
    return np.asarray(image.crop((left, top, left + side, top + side)))


def normalised(image_BHWC: Tensor, device: torch.device) -> Tensor:
    """BCHW: bytes as the numbers that a model expects; computed where the model is."""
    image_BCHW = image_BHWC.to(device, non_blocking=True).permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor(_MEAN, device=device), torch.tensor(_STD, device=device)
    return (image_BCHW - mean.view(3, 1, 1)) / std.view(3, 1, 1)


def _decoded(data: bytes, side: int) -> Pixels:
    """RGB, where it can be already shrunk, with no side shorter than `side` by that."""
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
        if height * width > _MAX_PIXELS:
            raise Undecodable(f"{width}x{height} pixels")
        image: Pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=side, min_width=side)
    except ValueError:
        # Not a JPEG, or one that libjpeg-turbo has doubts about.
        return np.asarray(_opened(data))
    return image


def _opened(data: bytes) -> Image.Image:
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise Undecodable(f"{image.width}x{image.height} pixels")
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, *_BOMBS) as error:
        raise Undecodable(str(error)) from None
