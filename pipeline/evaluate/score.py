"""Score: all that is measured on one evaluation set.

Shapes: N images, K classes, T texts, E embedding.
"""

from collections import Counter
from collections.abc import Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline import evalsets
from pipeline.errors import BadInput
from pipeline.evaluate import annotations, labelled, probed, retrieval, zeroshot
from pipeline.evaluate.classes import classes_of
from pipeline.evaluate.encode import Encoded, Encoder, encode
from pipeline.evaluate.metrics import LEAST_CLASSES_FOR_TOP, TOP, Answers, Bools, Ints
from pipeline.evaluate.overlap import by_overlap
from pipeline.evaluate.zeroshot import Embedding
from pipeline.settings import EvalSet
from pipeline.tokenizer import Tokenizer

ZERO_SHOT, PROBE = "zero_shot", "linear_probe"


@dataclass(frozen=True)
class Predicted:
    """What a classifier said of each image."""

    how: str
    names: list[str]
    labels: list[str]
    predicted: list[str]
    overlaps_N: Bools | None
    """Whether the corpus holds it; None where no audit tells."""


@dataclass(frozen=True)
class Kept:
    """What a set's zero-shot accuracy among other classes is computed from."""

    embedding_NE: Embedding
    class_KE: Embedding
    truth_N: Ints
    keys: list[str]


@dataclass(frozen=True)
class Scored:
    """One set's numbers, and how many of its images they are about."""

    told: dict[str, Any]
    images: int
    undecodable: int
    unlabelled: int
    predictions: list[Predicted] = field(default_factory=list)
    """Of images that have one class each."""
    kept: Kept | None = None


def score(
    evalset: EvalSet, encoder: Encoder, tokenizer: Tokenizer, overlapping: Set[str] | None
) -> Scored:
    """Zero-shot, and with a training split a linear probe; retrieval for a set of captions.

    `overlapping` names images the corpus holds; None where no audit tells.
    """
    if evalset.metric == "recall_at_k":
        return _retrieved(evalset, encoder, tokenizer, overlapping)
    test, told_N = labelled.encoded(evalset, evalset.split, encoder)
    classes = classes_of(evalset, {label for told in told_N for label in told})
    overlaps_N = _overlaps(test, overlapping)
    class_KE = zeroshot.class_embeddings(
        encoder.model,
        tokenizer,
        classes.names,
        classes.templates,
        encoder.device,
        batch_size=encoder.settings.batch_size,
        precision=encoder.precision,
    )
    is_multiple = evalset.metric == "map_11_point"
    told: dict[str, Any] = {
        "split": evalset.split,
        "images": len(test.names),
        "undecodable": test.undecodable,
        "unlabelled": test.unlabelled,
        "classes": len(classes.names),
        "metric": evalset.metric,
        "labels": classes.how,
        "templates": len(classes.templates),
        **_unmatched(test, overlapping),
    }
    if is_multiple:
        targets_NK = labelled.matrix(told_N, classes)
        nobody_N = np.zeros(len(test.names), np.int64)
        found = zeroshot.answers(test.embedding_NE, class_KE, nobody_N, targets_NK)
        told["chance"] = float((targets_NK == 1).sum() / max(1, (targets_NK >= 0).sum()))
        told[ZERO_SHOT] = by_overlap(found, overlaps_N, evalset.metric)
        if encoder.settings.linear_probe and evalset.train_split is not None:
            told[PROBE] = probed.probed(evalset, encoder, test, told_N, overlaps_N).told
        return Scored(told, len(test.names), test.undecodable, test.unlabelled)
    labels = labelled.single(evalset, test, told_N)
    truth_N = np.array([classes.place[label] for label in labels], np.int64)
    found = zeroshot.answers(test.embedding_NE, class_KE, truth_N)
    _check_metric(evalset, found)
    sizes = np.bincount(truth_N)
    told |= {"chance": _chance(evalset, len(classes.names))}
    told |= {"majority": float(sizes.max() / len(labels))}
    told |= {"classes_without_images": len(classes.names) - int((sizes > 0).sum())}
    told[ZERO_SHOT] = by_overlap(found, overlaps_N, evalset.metric)
    called = dict(enumerate(classes.keys)) | {classes.place[label]: label for label in labels}
    answered = [called[number] for number in found.predicted_N.tolist()]
    predictions = [Predicted(ZERO_SHOT, test.names, labels, answered, overlaps_N)]
    if encoder.settings.linear_probe and evalset.train_split is not None:
        found_by_probe = probed.probed(evalset, encoder, test, told_N, overlaps_N)
        told[PROBE] = found_by_probe.told
        if found_by_probe.predicted is not None:
            said = found_by_probe.predicted
            predictions.append(Predicted(PROBE, test.names, labels, said, overlaps_N))
    kept = Kept(test.embedding_NE, class_KE, truth_N, classes.keys)
    return Scored(told, len(labels), test.undecodable, test.unlabelled, predictions, kept)


def _overlaps(images: Encoded, overlapping: Set[str] | None) -> Bools | None:
    if overlapping is None:
        return None
    return np.array([name in overlapping for name in images.names], np.bool_)


def _unmatched(images: Encoded, overlapping: Set[str] | None) -> dict[str, int]:
    """Overlaps that name no image that is scored: of an audit that called the images otherwise, or
    of images without a class."""
    return {"overlaps_of_no_image": len((overlapping or set()) - set(images.names))}


def _chance(evalset: EvalSet, classes: int) -> float:
    """What answers without a look at the images reach."""
    if evalset.metric == "roc_auc":
        return 0.5
    if evalset.metric == "mean_top1_top5":
        return (1 + min(TOP, classes)) / classes / 2
    return 1 / classes


def _check_metric(evalset: EvalSet, found: Answers) -> None:
    """Raises BadInput where the set's metric cannot be told of its answers."""
    if evalset.metric == "roc_auc" and found.classes != 2:
        why = f"roc_auc is of two classes, and it has {found.classes}"
    elif evalset.metric == "roc_auc" and len(np.unique(found.truth_N)) < 2:
        why = "roc_auc needs images of both classes, and all are of one"
    elif evalset.metric == "mean_top1_top5" and found.classes < LEAST_CLASSES_FOR_TOP:
        why = f"mean_top1_top5 needs {LEAST_CLASSES_FOR_TOP} classes, and it has {found.classes}"
    else:
        return
    raise BadInput(f"evalsets.{evalset.name}: {why}: set another `metric`")


def _retrieved(
    evalset: EvalSet, encoder: Encoder, tokenizer: Tokenizer, overlapping: Set[str] | None
) -> Scored:
    unread = Counter[str]()
    captions = annotations.captions_of(evalset, unread)
    test = encode(
        encoder,
        evalsets.images(evalset, evalset.split),
        lambda image: captions.of(image.name) is not None,
    )
    if not test.names:
        raise BadInput(
            f"evalsets.{evalset.name}: no image of split `{evalset.split}` has a caption "
            f"({test.unlabelled} have none, {test.undecodable} are unreadable): the table of "
            "captions must name the images as the set does"
        )
    texts_N = [captions.of(name) or [] for name in test.names]
    texts = [text for own in texts_N for text in own]
    image_T = np.repeat(np.arange(len(texts_N)), [len(own) for own in texts_N])
    text_TE = zeroshot.text_embeddings(
        encoder.model,
        tokenizer,
        texts,
        encoder.device,
        batch_size=encoder.settings.batch_size,
        precision=encoder.precision,
    )
    image_NE = zeroshot.unit(test.embedding_NE)
    text_rank_N, image_rank_T = retrieval.ranks(image_NE, text_TE, image_T)
    overlaps_N = _overlaps(test, overlapping)
    told = {
        "split": evalset.split,
        "images": len(test.names),
        "texts": len(texts),
        "undecodable": test.undecodable,
        "without_captions": test.unlabelled,
        "captions_of_no_image": captions.unused,
        "captions_unread": dict(unread),
        "metric": evalset.metric,
        **_unmatched(test, overlapping),
        # Of a draw without a look: one text of T is of the image on average, one image of N.
        "chance": (len(texts) / len(test.names) / len(texts) + 1 / len(test.names)) / 2,
        "retrieval": retrieval.recalls(text_rank_N, image_rank_T, image_T, overlaps_N),
    }
    return Scored(told, len(test.names), test.undecodable, test.unlabelled)
