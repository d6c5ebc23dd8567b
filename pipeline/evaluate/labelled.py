"""Labelled: the images of a split of an evaluation set, and the classes of each.

Shapes: N images, K classes.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from pipeline import evalsets
from pipeline.errors import BadInput
from pipeline.evaluate import annotations
from pipeline.evaluate.annotations import Targets
from pipeline.evaluate.classes import Classes
from pipeline.evaluate.encode import Encoded, Encoder, encode
from pipeline.settings import EvalSet


def encoded(evalset: EvalSet, split: str, encoder: Encoder) -> tuple[Encoded, list[Targets]]:
    """A split's images, and of each its classes. Raises BadInput when none can be
    scored."""
    where = evalset.labels
    targets = None if where is None else annotations.targets(evalset, where, split)

    def has_class(image: evalsets.EvalImage) -> bool:
        return image.label is not None if targets is None else targets.of(image.name) is not None

    found = encode(encoder, evalsets.images(evalset, split), has_class)
    if not found.names:
        raise BadInput(
            f"evalsets.{evalset.name}: no image of split `{split}` can be scored "
            f"({found.unlabelled} without a class, {found.undecodable} unreadable): lay them out "
            "as split/class/image, name a table of `labels`, or set scored = false"
        )
    if targets is None:
        return found, [{label: 1} for label in found.labels]
    return found, [targets.of(name) or {} for name in found.names]


def single(evalset: EvalSet, images: Encoded, told_N: Iterable[Targets]) -> list[str]:
    """Of each image its class. Raises BadInput when one has several."""
    labels = []
    for name, told in zip(images.names, told_N, strict=True):
        own = [label for label, is_so in told.items() if is_so == 1]
        if len(own) != 1:
            raise BadInput(
                f"evalsets.{evalset.name}: {name} has {len(own)} classes, and {evalset.metric} "
                'needs one: set metric = "map_11_point", or correct `labels`'
            )
        labels += own
    return labels


def matrix(told_N: list[Targets], classes: Classes) -> Any:
    """NK: 1, 0 or -1."""
    out = np.zeros((len(told_N), len(classes.names)), np.int8)
    for row, told in zip(out, told_N, strict=True):
        for label, is_so in told.items():
            row[classes.place[label]] = is_so
    return out
