"""Vocabulary: the words of the captions, counted, for a tokenizer to learn from.

reads   shards
writes  vocabulary

A pair of letters is worth joining when it occurs twice, in whatever words: so the rare words are
left out last, and only of a corpus that has more words than may be learned from.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipeline.schemas import VOCABULARY
from pipeline.tokenizer import MAX_WORD_BYTES, words

_ROOM = 1 << 20
"""Distinct words that a task holds before it hands them on."""
_LETTERS = 1 << 26
"""Letters of them."""
_BATCH = 1 << 16


@dataclass(frozen=True)
class Cut:
    """What is learned from."""

    distinct: int
    """Words before the cut."""
    occurrences: int
    min_count: int
    """Of the words that are left."""


def counted(captions: DataFrame) -> DataFrame:
    """How often each word occurs in the one column of `captions`."""
    partial = captions.mapInArrow(_count, "word string, count long")
    return partial.groupBy("word").agg(F.sum("count").alias("count"))


def cut(counts: DataFrame, most: int) -> Cut:
    """The least count such that no more than `most` words occur so often. Words of one count stay
    or go together, so that chance has no part in it."""
    histogram = counts.groupBy("count").agg(F.count("*").alias("words")).toArrow()
    histogram = histogram.sort_by([("count", "descending")])
    often, sizes = (histogram[name].to_numpy() for name in ("count", "words"))
    fits = int(np.searchsorted(np.cumsum(sizes), most, side="right"))
    min_count = int(often[fits - 1]) if fits else int(often[0]) + 1 if len(often) else 1
    return Cut(int(sizes.sum()), int((often * sizes).sum()), min_count)


def frequent(counts: DataFrame, min_count: int) -> DataFrame:
    """The words that occur at least so often, in the order of their text in each part."""
    return counts.where(F.col("count") >= min_count).sortWithinPartitions("word")


def _count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Counts of a task's words: most words once, and never more than there is room for."""
    found: Counter[str] = Counter()
    letters = 0
    for batch in batches:
        for raw in batch.column(0).cast(pa.binary()):
            # The tokenizer cuts a long word by its bytes; of its first letters, so many or more.
            for word in words((raw.as_py() or b"").decode("utf-8", "replace")):
                if word not in found:
                    letters += min(len(word), MAX_WORD_BYTES)
                found[word[:MAX_WORD_BYTES]] += 1
            if len(found) >= _ROOM or letters >= _LETTERS:
                yield from _handed_on(found)
                found.clear()
                letters = 0
    yield from _handed_on(found)


def _handed_on(found: Counter[str]) -> Iterator[pa.RecordBatch]:
    table = pa.table([list(found), list(found.values())], schema=VOCABULARY)
    yield from table.to_batches(max_chunksize=_BATCH)
