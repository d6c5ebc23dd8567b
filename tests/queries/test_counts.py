"""queries: words, bigrams"""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import nltk
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from pipeline.text import fold, tokens
from queries import bigrams, dump, words
from tests.queries.wiki import page, write_dump

_TEXTS = ["red circle and red square\ncircle", "a [[red]] circle", "blue &amp; red circle"]


def _batches(texts: list[str]) -> Iterator[pa.RecordBatch]:
    for text in texts:
        yield pa.RecordBatch.from_pydict({"text": pa.array([text], pa.string())})


def _summed(batches: Iterator[pa.RecordBatch]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for batch in batches:
        for name, count in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            counts[name] += count
    return counts


def test_words_and_bigrams_are_those_of_an_independent_count(
    spark: SparkSession, tmp_path: Path
) -> None:
    path = write_dump(tmp_path / "d.bz2", *(page(f"T{i}", t) for i, t in enumerate(_TEXTS)))
    texts = words.texts(dump.pages(spark, [path], "enwiki", 1 << 20))
    lines = ["red circle and red square", "circle", "a red circle", "blue", "red circle"]
    by_hand = Counter(word for line in lines for word in re.findall(r"\w+", line))
    counts = words.words(texts)
    assert words.frequent(counts, 1) == by_hand
    assert words.total(counts) == (by_hand.total(), len(by_hand))
    pairs = Counter(f"{a} {b}" for line in lines for a, b in pairwise(line.split()))
    # "blue & red" is one line of text, and the sign is no word.
    pairs["blue red"] += 1
    found = bigrams.bigrams(texts, dict(by_hand), 2)
    scored = bigrams.scored(found, dict(by_hand), by_hand.total())
    counted = dict(zip(scored["bigram"].to_pylist(), scored["count"].to_pylist(), strict=True))
    assert counted == {pair: n for pair, n in pairs.items() if n >= 2}


@settings(deadline=None)
@given(st.lists(st.text(max_size=50), max_size=8))
def test_words_of_any_text_are_counted_as_its_tokens(texts: list[str]) -> None:
    folded = [fold(text.encode("utf-8", "replace").decode()) + "\n" for text in texts]
    by_hand = Counter(token for text in folded for token in tokens(text))
    assert _summed(words._count(_batches(folded))) == by_hand


def test_nothing_is_lost_when_a_task_has_no_more_room(monkeypatch: pytest.MonkeyPatch) -> None:
    text = " ".join(f"w{n * n % 97}" for n in range(3000)) + "\nw1 unknown w1\n" + "x" * 100 + "\n"
    by_hand = Counter(text.split())
    vocabulary = dict(sorted(Counter(w for w in text.split() if w != "unknown").items()))
    pairs = Counter(
        f"{a} {b}"
        for line in text.splitlines()
        for a, b in pairwise(line.split())
        if a in vocabulary and b in vocabulary
    )
    monkeypatch.setattr(words, "_ROOM", 5)
    monkeypatch.setattr(words, "_LETTERS", 20)
    batches = list(words._count(_batches([text, text])))
    assert len(batches) > 10
    assert _summed(iter(batches)) == by_hand + by_hand

    monkeypatch.setattr(bigrams, "_SLOTS", 16)
    parts = list(bigrams._count(_batches([text, text]), bigrams.lexicon.of(vocabulary)))
    assert len(parts) > 10
    names = list(vocabulary)
    found: Counter[str] = Counter()
    for key, count in _summed(iter(parts)).items():
        found[f"{names[int(key) >> 32]} {names[int(key) & 0xFFFFFFFF]}"] += count
    assert found == pairs + pairs


def test_pmi_is_that_of_nltk() -> None:
    line = [f"w{n * n % 31}" for n in range(500)]
    vocabulary = dict(sorted(Counter(line).items()))
    counted = Counter(pairwise(line))
    number = {word: place for place, word in enumerate(vocabulary)}
    table = pa.table(
        {
            "pair": pa.array([number[a] << 32 | number[b] for a, b in counted], pa.int64()),
            "count": pa.array(counted.values(), pa.int64()),
        }
    )
    ours = bigrams.scored(table, vocabulary, len(line))
    finder = nltk.collocations.BigramCollocationFinder.from_words(line)
    theirs = {
        f"{a} {b}": score
        for (a, b), score in finder.score_ngrams(nltk.collocations.BigramAssocMeasures.pmi)
    }
    scores = dict(zip(ours["bigram"].to_pylist(), ours["pmi"].to_pylist(), strict=True))
    assert scores == pytest.approx(theirs, abs=1e-6)
    assert list(scores) == sorted(scores, key=lambda pair: (-scores[pair], pair))
    assert bigrams.best(ours, -99.0, 3).to_pylist() == ours.to_pylist()[:3]
    chosen = bigrams.best(ours, 1.0, 10_000)["pmi"].to_pylist()
    assert chosen == [score for score in scores.values() if score >= 1.0]
