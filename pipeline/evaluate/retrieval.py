"""Retrieval: finding the captions of an image among all captions, and the image of a caption.

An image has one caption or several, and is found when one of them is among the nearest k; a caption
is found when its image is. Shapes: N images, T texts, E embedding.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.evaluate import metrics, overlap
from pipeline.evaluate.metrics import CONFIDENCE, Bools, Ints, Value
from pipeline.intervals import interval

AT = (1, 5, 10)
_TILE = 2**24
"""Similarities that are in memory at a time: 64 MiB."""

Embedding = npt.NDArray[np.float32]
_WAYS = ("image_to_text", "text_to_image")


def ranks(image_NE: Embedding, text_TE: Embedding, image_T: Ints) -> tuple[Ints, Ints]:
    """How many texts are nearer to each image than the nearest of its own, and how many images are
    nearer to each text than its own. Of equally near ones the first comes first.

    `image_T` says which image each text is of; both embeddings have length one.
    """
    text_rank_N = np.empty(len(image_NE), np.int64)
    tile = max(1, _TILE // max(1, len(text_TE)))
    for first in range(0, len(image_NE), tile):
        near_NT = image_NE[first : first + tile] @ text_TE.T
        numbers_N1 = np.arange(first, first + len(near_NT))[:, None]
        own_NT = np.where(image_T == numbers_N1, near_NT, -np.inf)
        text_rank_N[first : first + tile] = metrics.ahead(near_NT, own_NT.argmax(axis=1))
    image_rank_T = np.empty(len(text_TE), np.int64)
    tile = max(1, _TILE // max(1, len(image_NE)))
    for first in range(0, len(text_TE), tile):
        near_TN = text_TE[first : first + tile] @ image_NE.T
        image_rank_T[first : first + tile] = metrics.ahead(near_TN, image_T[first : first + tile])
    return text_rank_N, image_rank_T


def recalls(
    text_rank_N: Ints, image_rank_T: Ints, image_T: Ints, overlaps_N: Bools | None
) -> dict[str, Any]:
    """Recall at 1, 5 and 10 both ways, of all, of the clean and of the overlapping images: among
    all texts and images alike. The score is the mean of both recalls at 1."""
    told: dict[str, Any] = {"metric": "recall_at_k"}
    clean_N, overlap_N = overlap.parts(len(text_rank_N), overlaps_N)
    parts = {"all": np.ones(len(text_rank_N), bool), "clean": clean_N, "overlap": overlap_N}
    hits = _hits(text_rank_N, image_rank_T, image_T)
    for name, rows_N in parts.items():
        told[name] = _part(hits, rows_N, image_T)
    return {**told, **overlap.all_minus_clean(hits["recall_at_1"], overlaps_N), "p_value": None}


def _hits(text_rank_N: Ints, image_rank_T: Ints, image_T: Ints) -> dict[str, Value]:
    """Each recall as a function of the images' weights: a text weighs what its image does."""
    images = len(text_rank_N)
    texts_N = np.bincount(image_T, minlength=images).astype(np.float64)

    def share(hits_N: npt.NDArray[Any], of_N: metrics.Floats) -> Value:
        def recall(weight_N: metrics.Floats) -> float:
            total = weight_N @ of_N
            return float(weight_N @ hits_N / total) if total else np.nan

        return recall

    found: dict[str, Value] = {}
    for k in AT:
        found[f"image_to_text_{k}"] = share((text_rank_N < k).astype(float), np.ones(images))
        hits_N = np.bincount(image_T, image_rank_T < k, images)
        found[f"text_to_image_{k}"] = share(hits_N, texts_N)
    both = [found[f"{way}_1"] for way in _WAYS]
    found["recall_at_1"] = lambda weight_N: (both[0](weight_N) + both[1](weight_N)) / 2
    return found


def _part(hits: dict[str, Value], rows_N: Bools, image_T: Ints) -> dict[str, Any]:
    images, weight_N = int(rows_N.sum()), rows_N.astype(np.float64)
    told: dict[str, Any] = {"images": images, "texts": int(rows_N[image_T].sum())}
    measures: dict[str, Any] = {}
    rows = np.flatnonzero(rows_N)

    def among(of: Value) -> Value:
        def value(weight: metrics.Floats) -> float:
            spread_N = np.zeros(len(rows_N))
            spread_N[rows] = weight
            return of(spread_N)

        return value

    for name, of in hits.items():
        found = of(weight_N) if images else np.nan
        if not np.isfinite(found):
            measures[name] = {"value": None, "low": None, "high": None}
            continue
        if name.startswith("image_to_text"):
            ends: tuple[float | None, float | None] = interval(
                round(found * images), images, CONFIDENCE, "wilson"
            )
        else:
            # The captions of an image stand or fall together: images are drawn again, not texts.
            ends = metrics.percentiles(among(of), metrics.resamples(images))
        measures[name] = {"value": found, "low": ends[0], "high": ends[1]}
    return {**told, "score": measures["recall_at_1"], "measures": measures}
