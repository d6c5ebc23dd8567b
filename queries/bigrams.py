"""Bigrams: pairs of words with high pointwise mutual information.

reads   texts, words
writes  bigrams (bigram, count, pmi)

Both words are in the vocabulary and the pair occurs at least 100 times itself: ranked by PMI
alone, pairs of the rarest words win. docs/decisions.md#bigrams.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipeline import lexicon
from pipeline.kernels import Bytes, kernel
from pipeline.lexicon import Lexicon, find, next_token
from pipeline.schemas import BIGRAMS

Longs = npt.NDArray[np.int64]

_SLOTS = 1 << 22
"""Of the table of a task's pairs, 64 MiB; handed on when it is half full."""
_PAIRS = pa.schema([pa.field("pair", pa.int64()), pa.field("count", pa.int64())])
_DIGITS = 6
"""Of a PMI after its point: logarithms differ in their last digit between machines."""


def bigrams(texts: DataFrame, vocabulary: dict[str, int], min_count: int) -> pa.Table:
    """The pairs of neighbouring words of `vocabulary`, which tells how often each occurs, that
    occur at least `min_count` times: first and second by their place in it, and the count."""
    context = texts.sparkSession.sparkContext
    known = context.broadcast(lexicon.of(vocabulary))

    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return _count(batches, Lexicon(*known.value))

    partial = texts.mapInArrow(count, "pair long, count long")
    counted = partial.groupBy("pair").agg(F.sum("count").alias("count"))
    table = counted.where(F.col("count") >= min_count).toArrow()
    known.unpersist()
    return table


def scored(pairs: pa.Table, vocabulary: dict[str, int], total: int) -> pa.Table:
    """The bigrams with their PMI, the highest first; of equals, the first by their text.

    The PMI is that of NLTK's BigramAssocMeasures, log2 of p(xy) / (p(x) p(y)) in bits, with
    `total` the number of all words.
    """
    key = pairs["pair"].to_numpy()
    both = pairs["count"].to_numpy()
    names = pa.array(vocabulary.keys(), pa.string())
    counts = np.fromiter(vocabulary.values(), np.float64, len(vocabulary))
    first, second = key >> 32, key & 0xFFFFFFFF
    ratio = both * float(total) / (counts[first] * counts[second])
    text = pc.binary_join_element_wise(
        names.take(pa.array(first)), names.take(pa.array(second)), " "
    )
    pmi = np.round(np.log2(ratio), _DIGITS)
    table = pa.table([text, pa.array(both), pa.array(pmi)], schema=BIGRAMS)
    return table.sort_by([("pmi", "descending"), ("bigram", "ascending")])


def best(ranked: pa.Table, min_pmi: float, limit: int) -> pa.Table:
    """The first `limit` of those with at least `min_pmi`."""
    return ranked.filter(pc.greater_equal(ranked["pmi"], min_pmi)).slice(0, limit)


def _count(batches: Iterator[pa.RecordBatch], vocabulary: Lexicon) -> Iterator[pa.RecordBatch]:
    """Counts of a task's pairs: most pairs once, and never more than there is room for."""
    pairs, counts = np.full(_SLOTS, -1, np.int64), np.zeros(_SLOTS, np.int64)
    size = np.zeros(1, np.int64)
    for batch in batches:
        text = lexicon.joined(batch.column(0))
        at = 0
        while (at := _count_text(vocabulary, text, at, pairs, counts, size)) < len(text):
            yield _handed_on(pairs, counts)
            pairs.fill(-1)
            counts.fill(0)
            size.fill(0)
    yield _handed_on(pairs, counts)


def _handed_on(pairs: Longs, counts: Longs) -> pa.RecordBatch:
    there = pairs >= 0
    return pa.RecordBatch.from_arrays([pairs[there], counts[there]], schema=_PAIRS)


@kernel
def _count_text(
    vocabulary: Lexicon, text: Bytes, at: int, pairs: Longs, counts: Longs, size: Longs
) -> int:
    """Count the pairs of neighbours of `text` from `at` on, as `first << 32 | second`.

    Returns where it stopped: the end of the text, or where to go on once the table is empty.
    """
    is_token, slots, hashes, ends, letters, _ = vocabulary
    mask = len(pairs) - 1
    known = size[0]
    before, before_at = -1, at
    while at < len(text):
        begin, end, value, is_new_line = next_token(is_token, text, at, len(text))
        if is_new_line:
            before, before_at = -1, at
        if known > mask // 2:
            at = before_at
            break
        number = -1
        if end > begin:
            number, _ = find(slots, hashes, ends, letters, text, begin, end, value)
        if before >= 0 and number >= 0:
            pair = before << 32 | number
            slot = (pair * np.int64(0x9E3779B97F4A7C1)) >> 17 & mask
            while pairs[slot] != pair and pairs[slot] >= 0:
                slot = (slot + 1) & mask
            if pairs[slot] < 0:
                pairs[slot] = pair
                known += 1
            counts[slot] += 1
        before, before_at = number, begin
        at = end
    size[0] = known
    return at
