"""Encode: the images of an evaluation set, as the model sees them.

Shapes: N images, D the image encoder's width, E embedding.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from pipeline import evalsets
from pipeline.decoding import Undecodable
from pipeline.errors import BadInput
from pipeline.settings import EvalSet
from pipeline.trainer.feeding import normalised
from pipeline.trainer.model import CLIP, VisionTransformer
from pipeline.trainer.pixels import Pixels, centre_square


@dataclass
class Encoded:
    """The images of a split that could be read and have a class, in the order of their names."""

    names: list[str]
    labels: list[str]
    features_ND: npt.NDArray[np.float32]
    """Before the projection: what a linear probe is fitted on."""
    embedding_NE: npt.NDArray[np.float32]
    undecodable: int = 0
    unlabelled: int = 0


def encode(
    model: CLIP, evalset: EvalSet, split: str, side: int, batch_size: int, device: torch.device
) -> Encoded:
    """Every image of `split`. Raises BadInput when none of them can be scored."""
    out = Encoded([], [], np.empty((0, 0), np.float32), np.empty((0, 0), np.float32))
    features, embeddings = [], []
    for squares in _batches(out, evalset, split, side, batch_size):
        image_BCHW = normalised(torch.from_numpy(np.stack(squares)), device)
        with torch.inference_mode():
            visual = model.visual
            feature_BD = visual.features(image_BCHW)
            # A ResNet's projection is part of its pool.
            embedding_BE = feature_BD
            if isinstance(visual, VisionTransformer):
                embedding_BE = feature_BD @ visual.proj
        features.append(feature_BD.float().cpu().numpy())
        embeddings.append(embedding_BE.float().cpu().numpy())
    if not features:
        raise BadInput(
            f"evalsets.{evalset.name}: no image of split `{split}` can be scored "
            f"({out.unlabelled} without a class, {out.undecodable} unreadable): lay them out as "
            "split/class/image, or set scored = false"
        )
    out.features_ND, out.embedding_NE = np.concatenate(features), np.concatenate(embeddings)
    return out


def _batches(
    out: Encoded, evalset: EvalSet, split: str, side: int, batch_size: int
) -> Iterator[list[Pixels]]:
    """Squares of pixels; their names and classes, and what is left out, are noted in `out`."""
    squares: list[Pixels] = []
    for image in evalsets.images(evalset, split):
        if image.label is None:
            out.unlabelled += 1
            continue
        try:
            squares.append(centre_square(image.data, side))
        except Undecodable:
            out.undecodable += 1
            continue
        out.names.append(image.name)
        out.labels.append(image.label)
        if len(squares) == batch_size:
            yield squares
            squares = []
    if squares:
        yield squares
