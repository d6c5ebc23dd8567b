"""Bigrams: pairs of words with high pointwise mutual information.

reads   pages, words
writes  bigrams (bigram, count, pmi)

Both words are in the vocabulary and the pair occurs at least 100 times itself: ranked by PMI
alone, pairs of the rarest words win. docs/decisions.md#bigrams.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from math import log2

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipeline.text import tokens

_COUNTS = pa.schema([pa.field("bigram", pa.string()), pa.field("count", pa.int64())])


def bigrams(pages: DataFrame, vocabulary: dict[str, int], min_count: int) -> DataFrame:
    """How often each pair of neighbouring vocabulary words occurs, from `min_count` on."""
    session = pages.sparkSession
    known = session.sparkContext.broadcast(frozenset(vocabulary))

    def count_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            counts: Counter[str] = Counter()
            for text in batch.column("text").to_pylist():
                counts.update(neighbours(text, known.value))
            yield pa.RecordBatch.from_arrays(
                [pa.array(counts.keys(), pa.string()), pa.array(counts.values(), pa.int64())],
                schema=_COUNTS,
            )

    texts = pages.where(F.col("kind") == "article").select("text")
    partial = texts.mapInArrow(count_batches, "bigram string, count long")
    counted = partial.groupBy("bigram").agg(F.sum("count").alias("count"))
    return counted.where(F.col("count") >= min_count)


def neighbours(text: str, vocabulary: frozenset[str]) -> Iterator[str]:
    """Each pair of neighbouring words of a line, when both are in `vocabulary`."""
    for line in text.splitlines():
        for first, second in pairwise(tokens(line)):
            if first in vocabulary and second in vocabulary:
                yield f"{first} {second}"


def pmi(both: int, first: int, second: int, total: int) -> float:
    """Pointwise mutual information, in bits: log2 of p(xy) / (p(x) p(y)).

    As NLTK's BigramAssocMeasures.pmi, with `total` the number of words.
    """
    return log2(both * total) - log2(first * second)


def best(
    counts: dict[str, int], vocabulary: dict[str, int], total: int, limit: int
) -> list[tuple[str, float]]:
    """The `limit` bigrams of highest PMI; of equals, the first by their text."""
    scored = []
    for bigram, both in counts.items():
        first, second = bigram.split(" ")
        scored.append((bigram, pmi(both, vocabulary[first], vocabulary[second], total)))
    return sorted(scored, key=lambda entry: (-entry[1], entry[0]))[:limit]
