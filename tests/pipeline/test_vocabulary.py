"""Words counted by Spark for a tokenizer to learn from."""

from collections import Counter

import pyarrow as pa
import pytest

from pipeline import tokenizer, vocabulary
from pipeline.schemas import VOCABULARY

CAPTIONS = ["the cat sat on the mat", "The cat's hat &amp; 2 cats", "", "<|endoftext|> café", None]


def counted(batches):
    columns = [pa.record_batch([pa.array(batch, pa.string())], ["caption"]) for batch in batches]
    return list(vocabulary._count(iter(columns)))


def summed(parts):
    found = Counter()
    for part in parts:
        for row in part.to_pylist():
            found[row["word"]] += row["count"]
    return found


def test_the_words_of_a_task_are_those_that_the_tokenizer_parts():
    parts = counted([CAPTIONS[:2], CAPTIONS[2:]])
    assert summed(parts) == tokenizer.count_words(caption for caption in CAPTIONS if caption)
    assert all(part.schema.equals(VOCABULARY) for part in parts)


def test_a_task_never_holds_more_words_than_it_has_room_for(monkeypatch):
    monkeypatch.setattr(vocabulary, "_ROOM", 3)
    parts = counted([[caption] for caption in CAPTIONS])
    assert len(parts) > 2
    assert summed(parts) == tokenizer.count_words(caption for caption in CAPTIONS if caption)
    monkeypatch.setattr(vocabulary, "_LETTERS", 1)
    monkeypatch.setattr(vocabulary, "_ROOM", 1000)
    assert len(counted([["a b"], ["a"], ["c"]])) == 3


def test_a_word_without_end_is_cut_and_one_that_is_no_text_is_mended():
    column = pa.array([b"x" * 5000, b"x" * 4000, b"\xff caf\xc3\xa9"], pa.binary())
    batch = pa.record_batch([column], ["caption"])
    found = summed(vocabulary._count(iter([batch])))
    assert found == {"x" * tokenizer.MAX_WORD_BYTES: 2, "�": 1, "café": 1}


@pytest.mark.parametrize(
    ("most", "min_count", "kept"),
    [(9, 1, 4), (4, 1, 4), (3, 2, 1), (1, 2, 1)],
)
def test_the_rarest_words_go_first_and_words_of_one_count_together(spark, most, min_count, kept):
    rows = [("the", 5), ("cat", 1), ("mat", 1), ("hat", 1)]
    counts = spark.createDataFrame(rows, "word string, count long")
    cut = vocabulary.cut(counts, most)
    assert (cut.distinct, cut.occurrences, cut.min_count) == (4, 8, 5 if min_count == 2 else 1)
    assert vocabulary.frequent(counts, cut.min_count).count() == kept
