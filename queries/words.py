"""Words: those that occur at least 100 times in Wikipedia.

reads   pages
writes  words (word, count)
"""

from collections import Counter
from collections.abc import Iterator

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipeline.text import tokens

_COUNTS = pa.schema([pa.field("word", pa.string()), pa.field("count", pa.int64())])


def words(pages: DataFrame) -> DataFrame:
    """How often each word occurs in the articles, the rare ones too: PMI needs their sum."""
    texts = pages.where(F.col("kind") == "article").select("text")
    partial = texts.mapInArrow(_count_batches, "word string, count long")
    return partial.groupBy("word").agg(F.sum("count").alias("count"))


def total(counts: DataFrame) -> tuple[int, int]:
    """How many words there are in all, and how many distinct ones."""
    row = counts.agg(F.sum("count"), F.count("*")).collect()[0]
    return int(row[0] or 0), int(row[1])


def frequent(counts: DataFrame, min_count: int) -> DataFrame:
    """The words that occur at least `min_count` times."""
    return counts.where(F.col("count") >= min_count)


def _count_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        counts: Counter[str] = Counter()
        for text in batch.column("text").to_pylist():
            counts.update(tokens(text))
        yield pa.RecordBatch.from_arrays(
            [pa.array(counts.keys(), pa.string()), pa.array(counts.values(), pa.int64())],
            schema=_COUNTS,
        )
