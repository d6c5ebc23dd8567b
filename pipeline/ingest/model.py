"""Model: the labels that a fasttext model gives to texts, as fasttext itself would.

fasttext's package is asked text by text, and its reader can be crashed by a broken file. This one
takes a batch at a time, and says the same.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.ingest import fasttext_file
from pipeline.ingest.ngrams import average_rows, features_of
from pipeline.ingest.outputs import best_leaves, path_to, probabilities, score_leaf, tree_of
from pipeline.lexicon import bounded

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]

_MAX_NUMBERS = 1 << 22
"""That one batch is made of, for each of its texts and of a row's, or the labels', numbers."""


class Model:
    """A supervised fasttext model."""

    def __init__(self, file: fasttext_file.File) -> None:
        self.labels = file.labels
        self._features = features_of(file)
        self._rows = file.rows
        self._outputs = file.outputs
        self._loss = file.loss
        self._tree = tree_of(file.label_counts)

    @classmethod
    def load(cls, path: str) -> "Model":
        """The model of a file. Raises BadInput when it is none."""
        return cls(fasttext_file.read(path))

    def best(self, texts: pa.StringArray) -> tuple[Ints, Floats]:
        """Each text's most probable label, by its place, and its probability; texts of one line.

        A text has none, which is -1 and 0, where no label has a probability of 1e-5.
        """
        best: Any = np.full(len(texts), -1, np.int32)
        scores: Any = np.zeros(len(texts), np.float32)
        for part, hidden in self._hidden(texts):
            if self._loss == "hs":
                best_leaves(hidden, self._outputs, self._tree, best[part], scores[part])
            else:
                found = self._probabilities(hidden)
                best[part] = found.argmax(axis=1)
                scores[part] = found.max(axis=1)
        return best, _as_probability(scores)

    def scores(self, texts: pa.StringArray, label: str) -> Floats:
        """The probability of one label for each text."""
        place = self.labels.index(label)
        path = path_to(self._tree, place)
        scores: Any = np.zeros(len(texts), np.float32)
        for part, hidden in self._hidden(texts):
            if self._loss == "hs":
                score_leaf(hidden, self._outputs, path, scores[part])
            else:
                scores[part] = self._probabilities(hidden)[:, place]
        return _as_probability(scores)

    def _hidden(self, texts: pa.StringArray) -> Iterator[tuple[slice, Floats]]:
        """The mean rows of the texts, some texts at a time."""
        size = max(1, _MAX_NUMBERS // max(self._rows.shape[1], len(self.labels)))
        for begin in range(0, len(texts), size):
            some = texts.slice(begin, size)
            hidden: Any = np.zeros((len(some), self._rows.shape[1]), np.float32)
            letters, bounds = bounded(some)
            longest = int(np.diff(bounds).max())
            average_rows(letters, bounds, *self._features, longest, self._rows, hidden)
            yield slice(begin, begin + len(some)), hidden

    def _probabilities(self, hidden: Floats) -> Floats:
        """Of every text and label."""
        found: Any = np.empty((len(hidden), len(self.labels)), np.float32)
        probabilities(hidden, self._outputs, self._loss == "softmax", found)
        return found  # type: ignore[no-any-return]


def _as_probability(scores: Floats) -> Floats:
    """At most 1, which fasttext's own exceed by its guard; 0 where the model says no number."""
    found: Any = np.minimum(np.nan_to_num(scores, nan=0.0), np.float32(1.0))
    return found  # type: ignore[no-any-return]
