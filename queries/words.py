"""Words: those that occur at least 100 times in Wikipedia.

reads   pages
writes  words (word, count)
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipeline import lexicon
from pipeline.schemas import WORDS

_ROOM = 1 << 20
"""Distinct words that a task holds before it hands them on."""
_LETTERS = 1 << 24
"""Bytes of them."""


def texts(pages: DataFrame) -> DataFrame:
    """The text of the articles alone."""
    return pages.where(F.col("kind") == "article").select("text")


def words(texts: DataFrame) -> DataFrame:
    """How often each word occurs, the rare ones too."""
    partial = texts.mapInArrow(_count, "word string, count long")
    return partial.groupBy("word").agg(F.sum("count").alias("count"))


def total(counts: DataFrame) -> tuple[int, int]:
    """How many words there are in all, and how many distinct ones."""
    row = counts.agg(F.sum("count"), F.count("*")).collect()[0]
    return int(row[0] or 0), int(row[1])


def frequent(counts: DataFrame, min_count: int) -> dict[str, int]:
    """The words that occur at least `min_count` times, in the order of their text."""
    table = counts.where(F.col("count") >= min_count).toArrow().sort_by("word")
    return dict(zip(table["word"].to_pylist(), table["count"].to_pylist(), strict=True))


def _count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Counts of a task's words: most words once, and never more than there is room for."""
    found, counts = lexicon.empty(_ROOM, _LETTERS), np.zeros(_ROOM, np.int64)
    for batch in batches:
        text = lexicon.joined(batch.column(0))
        at = 0
        while (at := lexicon.count(found, text, at, counts)) < len(text):
            yield _handed_on(found, counts)
            # A single word may be as long as its text.
            found = lexicon.empty(_ROOM, max(_LETTERS, len(text)))
            counts = np.zeros(_ROOM, np.int64)
    yield _handed_on(found, counts)


def _handed_on(found: lexicon.Lexicon, counts: np.ndarray) -> pa.RecordBatch:
    names = lexicon.words(found)
    columns = [names, pa.array(counts[: len(names)])]
    return pa.RecordBatch.from_arrays(columns, names=WORDS.names)
