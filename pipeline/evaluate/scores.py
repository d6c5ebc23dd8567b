"""Scores: every set's numbers, what overlap did to all of them, and robustness between them."""

from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import copies
from pipeline.errors import BadInput
from pipeline.evaluate import overlap, robustness, zeroshot
from pipeline.evaluate.encode import Encoder
from pipeline.evaluate.robustness import Counted
from pipeline.evaluate.score import Kept, Predicted, Scored, score
from pipeline.settings import EvalSet, EvaluateSettings, Robustness
from pipeline.tokenizer import Tokenizer

PREDICTIONS = pa.schema(
    [
        ("evalset", pa.string()),
        ("eval_id", pa.string()),
        ("model", pa.string()),
        ("label", pa.string()),
        ("prediction", pa.string()),
        ("correct", pa.bool_()),
        ("overlap", pa.bool_()),
    ]
)
"""As `wit audit --predictions` reads them."""


@dataclass(frozen=True)
class Scores:
    """All of it."""

    told: dict[str, Any]
    """By set."""
    robustness: list[dict[str, Any]]
    tests: int
    """P-values that share the level of significance."""
    predictions: pa.Table
    scored: int
    dropped: dict[str, int]


def score_all(
    evalsets: Sequence[EvalSet],
    encoder: Encoder,
    tokenizer: Tokenizer,
    overlapping: Callable[[str], Set[str] | None],
    significance: float,
    note: Callable[[str], AbstractContextManager[Any]],
) -> Scores:
    """Every set that is scored; `overlapping` names, of a set, the images that the corpus holds;
    None where no audit tells."""
    wanted = [one for one in evalsets if one.scored and one.purpose == "evaluation"]
    _check(encoder.settings, wanted)
    compared = {name for one in encoder.settings.robustness for name in _names(one)}
    told: dict[str, Any] = {}
    kept: dict[str, Kept] = {}
    tables = [PREDICTIONS.empty_table()]
    dropped = {"undecodable": 0, "unlabelled": 0}
    images = 0
    for evalset in wanted:
        with note(f"scoring {evalset.name}"):
            found: Scored = score(evalset, encoder, tokenizer, overlapping(evalset.name))
        told[evalset.name] = found.told
        tables += [_table(evalset.name, one) for one in found.predictions]
        images += found.images
        dropped["undecodable"] += found.undecodable
        dropped["unlabelled"] += found.unlabelled
        if evalset.name in compared:
            if found.kept is None:
                raise BadInput(
                    f"evaluate.robustness: {evalset.name} is no set of one class an image, and "
                    "has no accuracy to compare: leave it out"
                )
            kept[evalset.name] = found.kept
    tests = overlap.corrected(told, significance)
    shifts = [_shift(one, kept) for one in encoder.settings.robustness]
    reasons = {reason: count for reason, count in dropped.items() if count}
    return Scores(told, shifts, tests, pa.concat_tables(tables), images, reasons)


def _names(one: Robustness) -> list[str]:
    return [one.reference, *one.shifted]


def _check(settings: EvaluateSettings, wanted: Sequence[EvalSet]) -> None:
    """Before hours of scoring, and not behind them."""
    there = {evalset.name for evalset in wanted}
    for one in settings.robustness:
        missing = [name for name in _names(one) if name not in there]
        if missing:
            raise BadInput(
                f"evaluate.robustness: {missing[0]} is not among the scored evaluation sets "
                f"({', '.join(sorted(there)) or 'none'}): add it, or correct the name"
            )
        if one.baselines is not None:
            robustness.read(copies.local(one.baselines), None)


def _table(name: str, of: Predicted) -> pa.Table:
    count = len(of.names)
    right = [label == said for label, said in zip(of.labels, of.predicted, strict=True)]
    columns = [
        [name] * count,
        of.names,
        [of.how] * count,
        of.labels,
        of.predicted,
        right,
        [None] * count if of.overlaps_N is None else of.overlaps_N.tolist(),
    ]
    return pa.table(dict(zip(PREDICTIONS.names, columns, strict=True)), schema=PREDICTIONS)


# -- robustness ----------------------------------------------------------------------------


def _shift(settings: Robustness, kept: Mapping[str, Kept]) -> dict[str, Any]:
    """Effective robustness on each shifted set and on their mean. A set of fewer classes is
    compared with the reference's images of those, told apart among those."""
    reference = kept[settings.reference]
    pairs = {
        name: (_counted(reference, kept[name].keys), _counted(kept[name], kept[name].keys))
        for name in settings.shifted
    }
    told = {name: _effective(settings, name, [pair]) for name, pair in pairs.items()}
    mean = _effective(settings, None, list(pairs.values()))
    if len(pairs) == 1:
        # Its baselines may be told with its name, or without one.
        name, one = next(iter(told.items()))
        mean = one if one["line"] is not None else mean
        told = {name: mean}
    return {
        "reference": settings.reference,
        "shifted": list(settings.shifted),
        "baselines": settings.baselines,
        "sets": told,
        "mean": mean,
    }


def _effective(
    settings: Robustness, name: str | None, pairs: list[tuple[Counted, Counted]]
) -> dict[str, Any]:
    others = None
    if settings.baselines is not None:
        others = robustness.read(copies.local(settings.baselines), name)
    found = robustness.effective([r for r, _ in pairs], [s for _, s in pairs], others)
    found["others"] = None
    if others is not None:
        told = zip(others.models, others.reference_M, others.shifted_M, strict=True)
        found["others"] = [
            {"model": model, "reference": float(x), "shifted": float(y)} for model, x, y in told
        ]
    return found


def _counted(of: Kept, keys: Sequence[str]) -> Counted:
    """Right answers among some classes, of the images of those."""
    place = {key: number for number, key in enumerate(of.keys)}
    shared = [place[key] for key in keys if key in place]
    if len(shared) < len(keys):
        # Classes that the reference does not have: it is taken as it is.
        shared = list(range(len(of.keys)))
    new_K = np.full(len(of.keys), -1)
    new_K[shared] = np.arange(len(shared))
    rows_N = new_K[of.truth_N] >= 0
    truth_N = new_K[of.truth_N[rows_N]]
    predicted_N = zeroshot.predict(of.embedding_NE[rows_N], of.class_KE[shared])
    return Counted(int((predicted_N == truth_N).sum()), len(truth_N))
