"""Quality: how a model of the user's own, trained on labels, likes a caption."""

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline import copies
from pipeline.errors import BadInput
from pipeline.ingest.captions import normalise_all
from pipeline.ingest.model import Model
from pipeline.settings import IngestSettings

REASONS = ("filter score",)


@lru_cache(maxsize=1)
def _model(path: str, size: int, time_ns: int) -> Model:  # noqa: ARG001 - another file, another model
    return Model.load(str(copies.local(path)))


def model_of(settings: IngestSettings) -> Model | None:
    """The model that the settings name, read once by each process while its file stays the same.

    Raises BadInput where it cannot be read, or lacks the label.
    """
    path, label = settings.filter_model, settings.filter_label
    if path is None:
        return None
    try:
        stat = copies.local(path).stat()
    except OSError as error:
        raise BadInput(
            f"ingest.filter_model: {path} cannot be read ({error.strerror}): correct the path, or "
            "make the model with `wit train-filter`"
        ) from None
    model = _model(path, stat.st_size, stat.st_mtime_ns)
    if label not in model.labels:
        raise BadInput(
            f"ingest.filter_label: {path} has no label {label!r} (it has "
            f"{', '.join(model.labels[:10])}): name one of them"
        )
    return model


def score_of(caption: str, settings: IngestSettings) -> float | None:
    """The probability of the label for a clean caption; None without a model."""
    found: float | None = scores_of(pa.array([caption]), settings)[0].as_py()
    return found


def scores_of(captions: pa.StringArray, settings: IngestSettings) -> pa.FloatArray:
    """`score_of` of each; captions that repeat are looked at once."""
    model = model_of(settings)
    if model is None:
        return pa.nulls(len(captions), pa.float32())
    encoded = captions.dictionary_encode()
    scores = model.scores(normalise_all(encoded.dictionary), settings.filter_label)
    return pa.array(scores).take(encoded.indices)


def is_poor(score: float | None, settings: IngestSettings) -> bool:
    """Whether a caption with this score is left out."""
    return score is not None and score < settings.min_filter_score


def are_poor(scores: pa.FloatArray, settings: IngestSettings) -> npt.NDArray[np.bool_]:
    """`is_poor` of each."""
    if settings.filter_model is None:
        return np.zeros(len(scores), np.bool_)
    found: Any = scores.to_numpy().astype(np.float64) < settings.min_filter_score
    return found  # type: ignore[no-any-return]
