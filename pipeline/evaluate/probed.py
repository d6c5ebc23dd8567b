"""Probed: a linear probe's answers on an evaluation set, chosen and judged by the set's own metric.

Shapes: N images, D width, K classes, P classes with images to learn from.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.evaluate import labelled, metrics, probe
from pipeline.evaluate.annotations import Targets
from pipeline.evaluate.classes import Classes, classes_of
from pipeline.evaluate.encode import Encoded, Encoder
from pipeline.evaluate.metrics import Answers, Bools, Floats, Ints
from pipeline.evaluate.overlap import by_overlap
from pipeline.evaluate.probe import Features, Scores
from pipeline.settings import EvalSet

_SEED = 0


@dataclass(frozen=True)
class Probed:
    """What is told of a probe, and its answer to each image where that is one class."""

    told: dict[str, Any]
    predicted: list[str] | None = None


def probed(
    evalset: EvalSet,
    encoder: Encoder,
    test: Encoded,
    told_N: list[Targets],
    overlaps_N: Bools | None,
) -> Probed:
    """A probe on the features of the training and the validation split."""
    found: list[tuple[Encoded, list[Targets]]] = [(test, told_N)]
    names = [evalset.train_split, evalset.validation_split]
    for split in (name for name in names if name is not None):
        found.append(labelled.encoded(evalset, split, encoder))
    told: dict[str, Any] = {}
    for name, (images, _) in zip(("train", "validation"), found[1:], strict=False):
        told[f"{name}_images"] = len(images.names)
        told |= {f"{name}_undecodable": images.undecodable}
        told |= {f"{name}_unlabelled": images.unlabelled}
    if shared := _shared([images for images, _ in found]):
        return Probed({**told, "skipped": shared})
    if evalset.metric != "map_11_point":
        for images, own in found[1:]:
            labelled.single(evalset, images, own)
    every = classes_of(evalset, {label for _, own in found for one in own for label in one})
    if evalset.metric == "roc_auc" and len(every.names) != 2:
        return Probed({**told, "skipped": f"its splits have {len(every.names)} classes, not two"})
    splits = [_Taught(images.features_ND, _truth(evalset, own, every)) for images, own in found]
    by_probe = _answered(
        splits[1],
        splits[2] if len(splits) > 2 else None,
        splits[0],
        overlaps_N,
        classes=len(every.names),
        metric=evalset.metric,
        halvings=encoder.settings.probe_halvings,
        how=probe.How(encoder.device),
    )
    told |= by_probe.told
    if by_probe.predicted_N is None:
        return Probed(told)
    # As the images are labelled, where a class has several labels.
    own_labels = [label for one in told_N for label, is_so in one.items() if is_so == 1]
    called = dict(enumerate(every.keys)) | {every.place[label]: label for label in own_labels}
    return Probed(told, [called[number] for number in by_probe.predicted_N.tolist()])


def _truth(evalset: EvalSet, told_N: list[Targets], classes: Classes) -> Any:
    if evalset.metric == "map_11_point":
        return labelled.matrix(told_N, classes)
    own = [next(label for label, is_so in one.items() if is_so == 1) for one in told_N]
    return np.array([classes.place[label] for label in own], np.int64)


def _shared(splits: list[Encoded]) -> str | None:
    """Why splits cannot be learned from: the images of a set without splits belong to all."""
    for number, one in enumerate(splits):
        for other in splits[:number]:
            if both := len(set(one.names) & set(other.names)):
                return f"{both} images are in two of its splits, and nothing would be held out"
    return None


@dataclass(frozen=True)
class _Taught:
    """A split that a probe learns from: the number of each image's class, or NK for many labels."""

    features_ND: Features
    truth: Any


@dataclass(frozen=True)
class _Answered:
    """What is told of a probe, and the number of the class that it says of each image."""

    told: dict[str, Any]
    predicted_N: Ints | None = None
    """None where no probe was fitted, or where an image may have several classes."""


def _answered(
    train: _Taught,
    validation: _Taught | None,
    test: _Taught,
    overlaps_N: Bools | None,
    *,
    classes: int,
    metric: str,
    halvings: int,
    how: probe.How,
) -> _Answered:
    """The probe fitted on `train` and judged on `test`; `classes` are as in its truths."""
    if train.truth.ndim == 2:
        found = probe.fit_multilabel(
            train.features_ND,
            train.truth,
            test.features_ND,
            halvings,
            _SEED,
            measure=lambda logits_NK, told_NK: _value(metric, _of_several(logits_NK, told_NK)),
            validation=None if validation is None else (validation.features_ND, validation.truth),
            how=how,
        )
        if isinstance(found, str):
            return _Answered({"skipped": found})
        answers = _of_several(found.logits_NK, test.truth)
        return _Answered({**_chosen(found), **by_overlap(answers, overlaps_N, metric)})
    splits = [train] if validation is None else [train, validation]
    there_P = np.unique(np.concatenate([split.truth for split in splits]))
    untrained = np.setdiff1d(test.truth, there_P)
    if len(untrained) == len(np.unique(test.truth)):
        return _Answered({"skipped": "no image to learn from is of a class of these images"})

    def measure(logits_NP: Floats, place_N: Ints) -> float:
        return _value(metric, _of_one(_spread(logits_NP, there_P, classes), there_P[place_N]))

    found = probe.fit_scores(
        train.features_ND,
        train.truth,
        test.features_ND,
        halvings,
        _SEED,
        validation=None if validation is None else (validation.features_ND, validation.truth),
        measure=measure,
        how=how,
    )
    if isinstance(found, str):
        return _Answered({"skipped": found})
    answers = _of_one(_spread(found.logits_NK, there_P, classes), test.truth)
    told = _chosen(found) | {"classes_without_training": len(untrained)}
    return _Answered({**told, **by_overlap(answers, overlaps_N, metric)}, answers.predicted_N)


def _chosen(found: Scores) -> dict[str, Any]:
    return {
        "strength": found.strength,
        "held_out_score": found.held_out_score,
        "has_converged": found.has_converged,
    }


def _spread(logits_NP: Floats, there_P: Ints, classes: int) -> Floats:
    """NK: of a class that nothing was learned of, the least."""
    logits_NK = np.full((len(logits_NP), classes), -np.inf)
    logits_NK[:, there_P] = logits_NP
    return logits_NK


def _of_one(logits_NK: Floats, truth_N: Ints) -> Answers:
    positive_N = None
    if logits_NK.shape[1] == 2:
        positive_N = logits_NK[:, 1] - logits_NK[:, 0]
    predicted_N = logits_NK.argmax(axis=1)
    top_N = metrics.ahead(logits_NK, truth_N) < metrics.TOP
    return Answers(logits_NK.shape[1], truth_N, predicted_N, top_N, positive_N)


def _of_several(logits_NK: Floats, targets_NK: Any) -> Answers:
    nobody_N = np.zeros(len(logits_NK), np.int64)
    return Answers(logits_NK.shape[1], nobody_N, nobody_N, None, None, logits_NK, targets_NK)


def _value(metric: str, answers: Answers) -> float:
    return metrics.value(metric, answers)(np.ones(len(answers.truth_N)))
