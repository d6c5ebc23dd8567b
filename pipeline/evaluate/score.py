"""Score: all that is measured on one evaluation set."""

from collections import Counter
from collections.abc import Set
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from pipeline.evalsets import class_name
from pipeline.evaluate import probe, zeroshot
from pipeline.evaluate.accuracy import by_overlap, mean_per_class_recall
from pipeline.evaluate.encode import Encoded, encode
from pipeline.settings import EvalSet, EvaluateSettings
from pipeline.tokenizer import Tokenizer
from pipeline.trainer.model import CLIP


@dataclass(frozen=True)
class Scored:
    """One set's numbers, and how many of its images they are about."""

    told: dict[str, Any]
    images: int
    undecodable: int
    unlabelled: int


def score(
    evalset: EvalSet,
    model: CLIP,
    tokenizer: Tokenizer,
    side: int,
    overlapping: Set[str],
    settings: EvaluateSettings,
    device: torch.device,
) -> Scored:
    """Zero-shot, and with a training split a linear probe; `overlapping` names images the corpus
    holds."""
    test = encode(model, evalset, evalset.split, side, settings.batch_size, device)
    sizes = Counter(test.labels)
    overlaps_N = np.array([name in overlapping for name in test.names])
    classes = sorted(sizes)
    names = [class_name(label) for label in classes]
    class_KE = zeroshot.class_embeddings(model, tokenizer, names, evalset.templates, device)
    nearest_N = zeroshot.predict(test.embedding_NE, class_KE)
    told: dict[str, Any] = {
        "split": evalset.split,
        "images": len(test.labels),
        "undecodable": test.undecodable,
        "unlabelled": test.unlabelled,
        "classes": len(classes),
        "chance": 1 / len(classes),
        "majority": max(sizes.values()) / len(test.labels),
        "zero_shot": _measured([classes[n] for n in nearest_N], test, overlaps_N),
    }
    if settings.linear_probe and evalset.train_split is not None:
        train = encode(model, evalset, evalset.train_split, side, settings.batch_size, device)
        told["linear_probe"] = _probed(train, test, overlaps_N, settings)
    return Scored(told, len(test.labels), test.undecodable, test.unlabelled)


def _probed(
    train: Encoded, test: Encoded, overlaps_N: Any, settings: EvaluateSettings
) -> dict[str, Any]:
    found = probe.fit(
        train.features_ND, train.labels, test.features_ND, settings.probe_halvings, seed=0
    )
    told: dict[str, Any] = {"train_images": len(train.labels)}
    told |= {"train_undecodable": train.undecodable, "train_unlabelled": train.unlabelled}
    if isinstance(found, str):
        return {**told, "skipped": found}
    how = asdict(found)
    del how["predicted"]
    return {**told, **how, **_measured(found.predicted, test, overlaps_N)}


def _measured(predicted: list[str], test: Encoded, overlaps_N: Any) -> dict[str, Any]:
    right_N = np.array(predicted) == np.array(test.labels)
    recall = mean_per_class_recall(predicted, test.labels)
    return {**by_overlap(right_N, overlaps_N), "mean_per_class_recall": recall}
