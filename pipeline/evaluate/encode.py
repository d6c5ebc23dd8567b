"""Encode: the images of an evaluation set, as the model sees them.

Images are decoded by threads, some batches ahead of the model. Shapes: N images, D the image
encoder's width, E embedding.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from pipeline.decoding import Undecodable
from pipeline.errors import BadInput
from pipeline.evalsets import EvalImage
from pipeline.settings import EvaluateSettings
from pipeline.trainer.feeding import normalised
from pipeline.trainer.model import CLIP
from pipeline.trainer.pixels import Pixels, centre_square

_AHEAD = 2
"""Batches that are being decoded while the model is at one."""


@dataclass(frozen=True)
class Encoder:
    """A model and how it is used."""

    model: CLIP
    side: int
    """Pixels of the square that it sees."""
    device: torch.device
    settings: EvaluateSettings

    @property
    def precision(self) -> str:
        told = self.settings.precision
        return ("bf16" if self.device.type == "cuda" else "fp32") if told == "auto" else told


@dataclass
class Encoded:
    """The images that could be read and are wanted, in the order in which they come."""

    names: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    """Empty where an image has none of its own."""
    features_ND: npt.NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), "f4"))
    """Before the projection: what a linear probe is fitted on."""
    embedding_NE: npt.NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), "f4"))
    undecodable: int = 0
    unlabelled: int = 0


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """The encoders in bf16 where that is asked for; their weights stay as they are."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def encode(
    encoder: Encoder, images: Iterable[EvalImage], is_wanted: Callable[[EvalImage], bool]
) -> Encoded:
    """Every image that is wanted; the others are counted as unlabelled."""
    out = Encoded()
    features, embeddings = [], []
    visual, device = encoder.model.visual, encoder.device
    projection = getattr(visual, "proj", None)
    for squares in _batches(out, encoder, images, is_wanted):
        image_BHWC = torch.from_numpy(np.stack(squares))
        if device.type == "cuda":
            image_BHWC = image_BHWC.pin_memory()
        with torch.inference_mode(), autocast(device, encoder.precision):
            feature_BD = visual.features(normalised(image_BHWC, device))
            # A ResNet's projection is part of its pool.
            embedding_BE = feature_BD if projection is None else feature_BD @ projection
        features.append(feature_BD.float().cpu().numpy())
        embeddings.append(embedding_BE.float().cpu().numpy())
    if features:
        out.features_ND, out.embedding_NE = np.concatenate(features), np.concatenate(embeddings)
    is_sound_N = np.isfinite(out.embedding_NE).all(axis=1)
    if not is_sound_N.all():
        raise BadInput(
            f"the model's embedding of {out.names[int(is_sound_N.argmin())]} is not finite: its "
            "weights are damaged, or diverged; evaluate another checkpoint"
        )
    return out


def _batches(
    out: Encoded,
    encoder: Encoder,
    images: Iterable[EvalImage],
    is_wanted: Callable[[EvalImage], bool],
) -> Iterator[list[Pixels]]:
    """Squares of pixels; their names and classes, and what is left out, are noted in `out`."""
    size = encoder.settings.batch_size
    waiting: deque[tuple[EvalImage, Future[Pixels | None]]] = deque()
    squares: list[Pixels] = []
    with ThreadPoolExecutor(encoder.settings.threads or os.cpu_count() or 1) as pool:

        def taken() -> None:
            image, coming = waiting.popleft()
            square = coming.result()
            if square is None:
                out.undecodable += 1
                return
            out.names.append(image.name)
            out.labels.append(image.label or "")
            squares.append(square)

        try:
            for image in images:
                if not is_wanted(image):
                    out.unlabelled += 1
                    continue
                waiting.append((image, pool.submit(_square, image.data, encoder.side)))
                if len(waiting) > _AHEAD * size:
                    taken()
                if len(squares) == size:
                    yield squares
                    squares = []
            while waiting:
                taken()
                if len(squares) == size:
                    yield squares
                    squares = []
        finally:
            for _, coming in waiting:
                coming.cancel()
    if squares:
        yield squares


def _square(data: bytes, side: int) -> Pixels | None:
    try:
        return centre_square(data, side)
    except Undecodable:
        return None
