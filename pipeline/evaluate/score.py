"""Score: all that is measured on one evaluation set.

Shapes: N images, K classes, T texts, E embedding.
"""

from collections import Counter
from collections.abc import Iterable, Set
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from pipeline import evalsets
from pipeline.errors import BadInput
from pipeline.evaluate import annotations, probe, retrieval, zeroshot
from pipeline.evaluate.annotations import ByImage, Targets
from pipeline.evaluate.classes import Classes, classes_of
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
    overlaps_N: Bools


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
    evalset: EvalSet, encoder: Encoder, tokenizer: Tokenizer, overlapping: Set[str]
) -> Scored:
    """Zero-shot, and with a training split a linear probe; retrieval for a set of captions.

    `overlapping` names images the corpus holds.
    """
    if evalset.metric == "recall_at_k":
        return _retrieved(evalset, encoder, tokenizer, overlapping)
    where = evalset.labels
    targets = None if where is None else annotations.targets(evalset, where)
    test = _encoded(evalset, evalset.split, encoder, targets)
    told_N = _targets(test, targets)
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
    }
    if is_multiple:
        targets_NK = _matrix(told_N, classes)
        nobody_N = np.zeros(len(test.names), np.int64)
        found = zeroshot.answers(test.embedding_NE, class_KE, nobody_N, targets_NK)
        told["chance"] = float((targets_NK == 1).sum() / max(1, (targets_NK >= 0).sum()))
        told[ZERO_SHOT] = by_overlap(found, overlaps_N, evalset.metric)
        if encoder.settings.linear_probe and evalset.train_split is not None:
            told[PROBE] = {"skipped": "a probe is fitted where an image has one class"}
        return Scored(told, len(test.names), test.undecodable, test.unlabelled)
    labels = _single(evalset, test, told_N)
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
        train = _encoded(evalset, evalset.train_split, encoder, targets)
        taught = _single(evalset, train, _targets(train, targets))
        told[PROBE], predicted = _probed(evalset, train, taught, test, labels, overlaps_N, encoder)
        if predicted is not None:
            predictions.append(Predicted(PROBE, test.names, labels, predicted, overlaps_N))
    kept = Kept(test.embedding_NE, class_KE, truth_N, classes.keys)
    return Scored(told, len(labels), test.undecodable, test.unlabelled, predictions, kept)


def _encoded(
    evalset: EvalSet, split: str, encoder: Encoder, targets: ByImage[Targets] | None
) -> Encoded:
    """A split's images. Raises BadInput when none of them can be scored."""

    def has_class(image: evalsets.EvalImage) -> bool:
        return image.label is not None if targets is None else targets.of(image.name) is not None

    found = encode(encoder, evalsets.images(evalset, split), has_class)
    if not found.names:
        raise BadInput(
            f"evalsets.{evalset.name}: no image of split `{split}` can be scored "
            f"({found.unlabelled} without a class, {found.undecodable} unreadable): lay them out "
            "as split/class/image, name a table of `labels`, or set scored = false"
        )
    return found


def _targets(images: Encoded, targets: ByImage[Targets] | None) -> list[Targets]:
    """Of each image its classes."""
    if targets is None:
        return [{label: 1} for label in images.labels]
    return [targets.of(name) or {} for name in images.names]


def _single(evalset: EvalSet, images: Encoded, told_N: Iterable[Targets]) -> list[str]:
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


def _matrix(told_N: list[Targets], classes: Classes) -> Any:
    """NK: 1, 0 or -1."""
    out = np.zeros((len(told_N), len(classes.names)), np.int8)
    for row, told in zip(out, told_N, strict=True):
        for label, is_so in told.items():
            row[classes.place[label]] = is_so
    return out


def _overlaps(images: Encoded, overlapping: Set[str]) -> Bools:
    return np.array([name in overlapping for name in images.names], np.bool_)


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


def _probed(
    evalset: EvalSet,
    train: Encoded,
    taught: list[str],
    test: Encoded,
    labels: list[str],
    overlaps_N: Bools,
    encoder: Encoder,
) -> tuple[dict[str, Any], list[str] | None]:
    found = probe.fit(
        train.features_ND, taught, test.features_ND, encoder.settings.probe_halvings, seed=0
    )
    told: dict[str, Any] = {"train_images": len(taught)}
    told |= {"train_undecodable": train.undecodable, "train_unlabelled": train.unlabelled}
    if isinstance(found, str):
        return {**told, "skipped": found}, None
    how = asdict(found)
    del how["predicted"]
    place = {label: number for number, label in enumerate(sorted({*taught, *labels}))}
    truth_N = np.array([place[label] for label in labels], np.int64)
    predicted_N = np.array([place[label] for label in found.predicted], np.int64)
    answers = Answers(len(place), truth_N, predicted_N)
    return {**told, **how, **by_overlap(answers, overlaps_N, evalset.metric)}, found.predicted


def _retrieved(
    evalset: EvalSet, encoder: Encoder, tokenizer: Tokenizer, overlapping: Set[str]
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
    length_N1 = np.maximum(np.linalg.norm(test.embedding_NE, axis=1, keepdims=True), 1e-12)
    text_rank_N, image_rank_T = retrieval.ranks(test.embedding_NE / length_N1, text_TE, image_T)
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
        # Of a draw without a look: one text of T is of the image on average, one image of N.
        "chance": (len(texts) / len(test.names) / len(texts) + 1 / len(test.names)) / 2,
        "retrieval": retrieval.recalls(text_rank_N, image_rank_T, image_T, overlaps_N),
    }
    return Scored(told, len(test.names), test.undecodable, test.unlabelled)
