"""pipeline.match"""

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import BadInput
from pipeline.match import QueryIndex
from pipeline.text import normalise


def test_a_query_matches_as_whole_tokens_only() -> None:
    index = QueryIndex.build(["circle", "red circle", "red", "encircled"])
    assert index.queries_in("Encircled: a RED circle.") == [0, 1, 2, 3]
    assert index.queries_in("semicircle, reddish") == []


def test_a_query_does_not_match_across_a_missing_word() -> None:
    assert QueryIndex.build(["a b c"]).queries_in("a b x c") == []


def test_null_and_empty_captions_match_nothing() -> None:
    found = QueryIndex.build(["a"]).match(pa.array([None, "", "a"], pa.string()))
    assert found.to_pylist() == [[], [], [0]]


_WORDS = st.sampled_from(["a", "b", "ab", "c", "é", "1"])


@given(
    st.lists(st.lists(_WORDS, min_size=1, max_size=3).map(" ".join), min_size=1, unique=True),
    st.lists(_WORDS).map(" ".join),
)
def test_the_index_finds_what_a_padded_substring_search_finds(
    queries: list[str], caption: str
) -> None:
    by_hand = [i for i, query in enumerate(queries) if f" {query} " in f" {normalise(caption)} "]
    assert QueryIndex.build(queries).queries_in(caption) == by_hand


def test_a_saved_index_finds_the_same(tmp_path: Path) -> None:
    index = QueryIndex.build(["a", "é b"])
    index.save(str(tmp_path / "index"))
    assert QueryIndex.load(str(tmp_path / "index")).queries_in("a É b") == [0, 1]


@pytest.mark.parametrize("queries", [[], ["a", "a"], ["A"], ["a  b"], [""]])
def test_a_list_that_could_not_match_is_refused(queries: list[str]) -> None:
    with pytest.raises(BadInput, match="wit derive"):
        QueryIndex.build(queries)
