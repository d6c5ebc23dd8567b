"""pipeline.match"""

import hashlib
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from pipeline.errors import BadInput
from pipeline.match import REASONS, QueryIndex, Semantics, folding, match, match_part
from pipeline.match.index import pieces
from pipeline.parts import parts
from pipeline.schemas import CANDIDATES, MATCHED
from pipeline.text import fold, normalise, tokens

# -- by hand -------------------------------------------------------------------------------


def _by_tokens(queries: list[str], caption: str) -> list[int]:
    """Each query whose tokens stand side by side in the caption."""
    ids = {tuple(query.split(" ")): number for number, query in enumerate(queries)}
    lengths = {len(words) for words in ids}
    found = tokens(caption)
    grams = {
        tuple(found[at : at + size]) for size in lengths for at in range(len(found) - size + 1)
    }
    return sorted(ids[gram] for gram in grams & ids.keys())


def _by_metaclip(queries: list[str], caption: str) -> list[int]:
    """Each query that stands between spaces."""
    text = _spaced(caption)
    return [number for number, query in enumerate(queries) if f" {query} " in text]


def _spaced(caption: str) -> str:
    """A caption with spaces around it and seven marks, and for tabs and line ends."""
    text = f" {caption} "
    for mark in ",.;:?!`":
        text = text.replace(mark, f" {mark} ")
    for space in "\t\n\r":
        text = text.replace(space, " ")
    return text


_TEXTS = st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace").decode())
_HARD = st.text("aAbB éÉe\u0301İςΣσßﬁ½…\u00a0\u2028\n\t\r,.가각가圓😀\u0345\0", max_size=40)


@st.composite
def _captions_and_cuts(draw: st.DrawFn) -> tuple[list[str], list[str]]:
    """Captions, and queries cut out of them."""
    captions = draw(st.lists(_TEXTS | _HARD, min_size=1, max_size=8))
    queries = {"a", "b a"}
    for caption in captions:
        found = tokens(caption)
        for _ in range(4 if found else 0):
            begin = draw(st.integers(0, len(found) - 1))
            size = draw(st.integers(1, 5))
            queries.add(" ".join(found[begin : begin + size]))
    return captions, sorted(queries)


@settings(deadline=None)
@given(_captions_and_cuts())
def test_a_query_matches_where_its_tokens_stand_side_by_side(
    drawn: tuple[list[str], list[str]],
) -> None:
    captions, queries = drawn
    index = QueryIndex.build(queries)
    found = index.match(pa.array(captions, pa.string())).to_pylist()
    assert found == [_by_tokens(queries, caption) for caption in captions]


_MARKED = st.text("ab ,.`\t\n\ré\0", max_size=12)


@settings(deadline=None, max_examples=300)
@given(
    st.lists(_MARKED | st.text("ab ", max_size=4), min_size=1, max_size=12, unique=True),
    st.lists(_MARKED | _TEXTS, max_size=8),
)
def test_metaclip_s_rule_is_that_of_a_substring_between_spaces(
    queries: list[str], captions: list[str]
) -> None:
    queries = list(dict.fromkeys(q.encode("utf-8", "replace").decode() for q in queries))
    found = QueryIndex.build(queries, "metaclip").match(pa.array(captions, pa.string()))
    assert found.to_pylist() == [_by_metaclip(queries, caption) for caption in captions]


def test_the_rules_differ_in_case_marks_and_spaces() -> None:
    queries, captions = ["red circle", "red", "circle"], ["A Red (circle)", "red  circle"]
    by_tokens, by_metaclip = QueryIndex.build(queries), QueryIndex.build(queries, "metaclip")
    assert by_tokens.match(pa.array(captions)).to_pylist() == [[0, 1, 2], [0, 1, 2]]
    assert by_metaclip.match(pa.array(captions)).to_pylist() == [[], [1, 2]]


# -- folding -------------------------------------------------------------------------------


def _folded(captions: list[str]) -> tuple[list[list[bytes]], list[bool]]:
    """The words of each caption as the kernel makes them, and which it leaves to Python."""
    raw = [caption.encode() for caption in captions]
    text = np.frombuffer(b"".join(raw), np.uint8)
    bounds = np.cumsum([0, *map(len, raw)])
    words = np.zeros(len(text) + len(raw) + folding.PADDING, np.uint8)
    is_foreign = np.zeros(len(raw), np.bool_)
    folding.fold_plain(folding.folds(), text, bounds, words, is_foreign)
    cut = [
        words[begin + row : end + row].tobytes().split()
        for row, (begin, end) in enumerate(pairwise(bounds))
    ]
    return cut, is_foreign.tolist()


def _words(text: str) -> list[bytes]:
    return [token.encode() for token in tokens(text)]


def test_every_code_point_folds_alone_and_beside_others_as_it_does_to_python() -> None:
    points = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    _, is_foreign = _folded(points)
    plain = [
        point
        for point, foreign in zip(points, is_foreign, strict=True)
        if not foreign and point != "\n"
    ]
    assert len(plain) > 120_000
    # What could join what: marks and letters that compose, jamo, capitals that depend on others.
    for before, behind in [("", ""), ("a", "b"), ("가", "가"), ("ο", "ο"), ("е", " ς")]:
        captions = [f"{before}{point}{behind}" for point in plain]
        words, foreign = _folded(captions)
        assert not any(foreign)
        expected = fold("\n".join(captions)).split("\n")
        assert words == [_words_of_folded(line) for line in expected]


def _words_of_folded(line: str) -> list[bytes]:
    return [token.encode() for token in folding.TOKEN.findall(line)]


@settings(deadline=None, max_examples=300)
@given(st.lists(_TEXTS | _HARD, max_size=10))
def test_captions_fold_behind_each_other_as_they_do_to_python(captions: list[str]) -> None:
    for caption, words, foreign in zip(captions, *_folded(captions), strict=True):
        assert foreign or words == _words(caption)


def test_what_depends_on_its_neighbours_is_left_to_python() -> None:
    depends = ["e\u0301", "ΟΔΟΣ", "\u1100\u1161", "½", "\U0002f800"]
    assert _folded(depends)[1] == [True] * len(depends)
    assert QueryIndex.build(["é", "οδος", "가", "1", "丽"]).match(
        pa.array(["x E\u0301", "ΟΔΟΣ", "\u1100\u1161", "½", "\U0002f800"])
    ).to_pylist() == [[0], [1], [2], [3], [4]]


# -- what comes in -------------------------------------------------------------------------

_CAPTIONS = ["A red circle.", None, "", "É b", "b\x00c", "no"]
_FOUND = [[0, 1], [], [], [2, 3], [2], []]


def _bytes(captions: list[str | None]) -> list[bytes | None]:
    return [None if caption is None else caption.encode() for caption in captions]


@pytest.mark.parametrize(
    "captions",
    [
        pa.array(_CAPTIONS, pa.string()),
        pa.array(_CAPTIONS, pa.large_string()),
        pa.array(_CAPTIONS, pa.string_view()),
        pa.array(_bytes(_CAPTIONS), pa.binary()),
        pa.array(_bytes(_CAPTIONS), pa.large_binary()),
        pa.array(_CAPTIONS, pa.string()).dictionary_encode(),
        pa.array(["red", *_CAPTIONS, "red"], pa.string())[1:-1],
        pa.chunked_array([_CAPTIONS[:2], [], _CAPTIONS[2:]], pa.string()),
    ],
    ids=["string", "large", "view", "binary", "large binary", "dictionary", "slice", "chunks"],
)
@pytest.mark.parametrize("semantics", ["tokens", "metaclip"])
def test_captions_come_in_any_kind_of_array(captions: Any, semantics: Semantics) -> None:
    if semantics == "tokens":
        found = QueryIndex.build(["red", "red circle", "b", "é"]).match(captions)
        assert found.to_pylist() == _FOUND
    else:
        found = QueryIndex.build(["red", "red circle .", "b", "É", "b\x00c"], semantics).match(
            captions
        )
        assert found.to_pylist() == [[0, 1], [], [], [2, 3], [4], []]
    assert found.type == MATCHED.field("query_ids").type


@pytest.mark.parametrize("captions", [pa.array([], pa.string()), pa.chunked_array([], pa.string())])
def test_no_captions_are_no_matches(captions: Any) -> None:
    assert QueryIndex.build(["a"]).match(captions).to_pylist() == []
    assert QueryIndex.build(["a"]).match(pa.nulls(2)).to_pylist() == [[], []]


def test_bytes_that_are_no_utf_8_are_read_as_a_mark_that_is_no_token() -> None:
    captions = pa.array([b"red\xffcircle", b"\xc3", b"\xa9 red", b"re\xf0\x9f"], pa.binary())
    assert QueryIndex.build(["red", "circle"]).match(captions).to_pylist() == [[0, 1], [], [0], []]
    damaged = pa.StringArray.from_buffers(
        2, pa.py_buffer(np.array([0, 1, 5], np.int32)), pa.py_buffer(b"\xe9 red")
    )
    assert QueryIndex.build(["red"]).match(damaged).to_pylist() == [[], [0]]


@pytest.mark.parametrize(
    "caption",
    [
        "\u202eלום עולם red",
        "😀👩\u200d👩\u200d👧 red 🏳️\u200d🌈",
        "r" + "\u0301\u0323" * 5000 + " red",
        "red\0red",
        "\ufeffred\ufffe",
        "\u3000red\u2003",
    ],
)
def test_captions_of_any_script_match_as_their_tokens_do(caption: str) -> None:
    queries = sorted({"red", *tokens(caption), normalise(caption)})
    assert QueryIndex.build(queries).queries_in(caption) == _by_tokens(queries, caption)


def test_a_token_that_ends_with_its_caption_does_not_run_into_the_next() -> None:
    captions = ["red", "circle", "re", "d", "", "red", "é", "red circl", "e"]
    queries = ["red", "circle", "red circle", "redcircle", "éred"]
    expected = [_by_tokens(queries, caption) for caption in captions]
    assert QueryIndex.build(queries).match(pa.array(captions)).to_pylist() == expected


def test_a_query_may_have_any_number_of_tokens_of_any_length() -> None:
    words = [f"{'w' * (n % 21)}{n}" for n in range(40)]
    queries = [" ".join(words[:size]) for size in (40, 39, 1, 2)] + ["x" * 100_000]
    index = QueryIndex.build(queries)
    assert index.queries_in(" ".join(words)) == [0, 1, 2, 3]
    assert index.queries_in(" ".join(words[:-1])) == [1, 2, 3]
    assert index.queries_in(" ".join(words[1:])) == []
    assert index.queries_in("x" * 100_000) == [4]
    assert index.queries_in("x" * 99_999) == []


@pytest.mark.parametrize("letters", range(1, 20))
def test_words_of_one_length_that_differ_in_a_letter_differ(letters: int) -> None:
    word = "abcdefghijklmnopqrst"[:letters]
    others = [f"{word[:at]}z{word[at + 1 :]}" for at in range(letters)]
    index = QueryIndex.build([word, *others[::2]])
    assert index.queries_in(word) == [0]
    for place, other in enumerate(others):
        assert index.queries_in(other) == ([] if place % 2 else [1 + place // 2])


def test_more_matches_than_are_compared_with_each_other_come_sorted_and_once() -> None:
    words = [f"w{n}" for n in range(1000)]
    index = QueryIndex.build(words)
    for size in (*range(14, 19), *range(126, 131), 1000):
        backwards = " ".join(words[:size][::-1])
        assert index.queries_in(f"{backwards} {backwards}") == list(range(size))


def test_a_caption_of_a_megabyte_is_matched_whole() -> None:
    words = [f"w{n}" for n in range(150_000)]
    index = QueryIndex.build([*words[::-1], "a", "a a", "a a a a"])
    assert index.queries_in(" ".join(words)) == list(range(150_000))
    found = index.match(pa.array(["a " * 500_000, "", "w0", "b " * 500_000, "é" * 500_000 + " a"]))
    assert found.to_pylist() == [[150_000, 150_001, 150_002], [], [149_999], [], [150_000]]


def test_captions_are_folded_some_at_a_time_whatever_their_sizes() -> None:
    sizes = [0, 5_000_000, 1, 4_000_000, 194_304, 1, 0, 3_000_000, 3_000_000, 0]
    words = [f"w{n}" for n in range(len(sizes))]
    texts = [f"{word:<{max(size, 2)}}" for word, size in zip(words, sizes, strict=True)]
    captions = pa.array(["before", None, *texts, "behind"], pa.string())[1:-1]
    found = list(pieces(captions))
    assert [text for piece in found for text in piece.to_pylist()] == ["", *texts]
    assert [len(piece) for piece in found] == [2, 1, 2, 4, 2]
    assert QueryIndex.build(words).match(captions).to_pylist() == [
        [],
        *([n] for n in range(len(sizes))),
    ]


def test_a_caption_that_is_none_by_its_size_is_refused() -> None:
    letters = pa.py_buffer(bytes((1 << 27) + 1))
    bounds = pa.py_buffer(np.array([0, 0, len(letters)], np.int32))
    captions = pa.StringArray.from_buffers(2, bounds, letters)
    with pytest.raises(BadInput, match="caption 1 has 134,217,729 bytes"):
        QueryIndex.build(["a"]).match(captions)


def test_a_query_that_never_occurs_is_never_found() -> None:
    found = QueryIndex.build(["red", "unheard of"]).match(pa.array(["red, unheard, of"] * 100))
    assert found.to_pylist() == [[0, 1]] * 100
    assert QueryIndex.build(["of unheard"]).queries_in("unheard of") == []


# -- real captions -------------------------------------------------------------------------


def _real_captions() -> pa.StringArray:
    folder = Path(os.environ.get("WIT_DATA", "")) / "captions"
    if "WIT_DATA" not in os.environ or not folder.is_dir():
        pytest.skip("no real captions: set WIT_DATA to a folder with captions/ in it")
    files = sorted(folder.glob("*.parquet"))
    texts = [pq.read_table(file, columns=["text"])["text"].cast(pa.string()) for file in files]
    return pa.chunked_array([chunk for text in texts for chunk in text.chunks]).combine_chunks()


def test_real_captions_match_as_by_hand_under_both_rules() -> None:
    captions = _real_captions()
    assert len(captions) > 400_000
    texts = [text or "" for text in captions.to_pylist()]
    # Words, neighbours and longer runs of every third caption, and a hash's choice of them.
    grams: set[str] = set()
    for text in texts[::3]:
        found = tokens(text)
        for size in _SIZES:
            grams.update(
                " ".join(found[at : at + size]) for at in range(0, len(found) - size + 1, size)
            )
    queries = sorted(gram for gram in grams if hashlib.md5(gram.encode()).digest()[0] < 128)  # noqa: S324
    assert len(queries) > 100_000
    ids = {query: number for number, query in enumerate(queries)}

    ours = QueryIndex.build(queries).match(captions).to_pylist()
    theirs = QueryIndex.build(queries, "metaclip").match(captions).to_pylist()
    for text, by_tokens, by_spaces in zip(texts, ours, theirs, strict=True):
        assert by_tokens == _runs(ids, tokens(text)), text
        assert by_spaces == _runs(ids, _spaced(text)[1:-1].split(" ")), text
    for place in range(0, len(texts), len(texts) // 50):
        assert theirs[place] == _by_metaclip(queries, texts[place])


_SIZES = (1, 2, 3, 6)


def _runs(ids: dict[str, int], words: list[str]) -> list[int]:
    """The numbers of the runs of so many words that have one."""
    runs = {
        " ".join(words[at : at + size]) for size in _SIZES for at in range(len(words) - size + 1)
    }
    return sorted(ids[run] for run in runs & ids.keys())


# -- the stage -----------------------------------------------------------------------------


def _candidates(folder: Path, captions: list[str]) -> Path:
    folder.mkdir(exist_ok=True)
    columns = {
        "pair_id": [f"{n:032x}" for n in range(len(captions))],
        "url": [f"http://a.example/{n}.jpg" for n in range(len(captions))],
        "caption": captions,
    }
    size = len(captions)
    arrays = [
        pa.array(columns[field.name], field.type)
        if field.name in columns
        else pa.nulls(size, field.type)
        for field in CANDIDATES
    ]
    table = pa.Table.from_arrays(arrays, schema=CANDIDATES)
    pq.write_table(table, folder / "part-0.parquet", row_group_size=7)
    return folder / "part-0.parquet"


def test_the_stage_writes_what_matched_and_counts_the_rest(
    spark: SparkSession, tmp_path: Path
) -> None:
    captions = [
        f"{'red ' if n % 3 else ''}circle {n}" if n % 5 else f"nothing {n}" for n in range(100)
    ]
    file = _candidates(tmp_path / "candidates", captions)
    queries = ["red circle", "circle", "unheard", "circle 7"]
    index = QueryIndex.build(queries)
    index.save(tmp_path / "_index_of_a_test")
    expected = [found for caption in captions if (found := _by_tokens(queries, caption))]

    written = []
    for name, todo in [("spark", parts([file], rows=20)), ("alone", parts([file], rows=20))]:
        folder = tmp_path / name
        folder.mkdir()
        if name == "spark":
            told = match(spark, todo, str(tmp_path / "_index_of_a_test"), 4, str(folder))
        else:
            tallies = [match_part(part, index, str(folder)) for part in todo]
            assert sum(tally.counts["rows"] for tally in tallies) == told.counts["rows"]
            assert sum(tally.per_query for tally in tallies).tolist() == told.per_query.tolist()
        written.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert written[0] == written[1]
    assert len(written[0]) == 5
    assert set(told.counts) == {"rows", *REASONS}
    assert told.counts == {"rows": len(expected), "no query": 20}
    assert told.per_query.tolist() == [
        sum(number in found for found in expected) for number in range(4)
    ]
    table = pa.concat_tables(
        [pq.read_table(tmp_path / "spark" / name) for name in sorted(written[0])]
    )
    assert table.schema.equals(MATCHED)
    assert table["query_ids"].to_pylist() == expected
    assert table["caption"].to_pylist() == [c for c in captions if not c.startswith("nothing")]


def test_a_part_in_which_nothing_matches_is_an_empty_file(tmp_path: Path) -> None:
    file = _candidates(tmp_path / "candidates", ["nothing"] * 3)
    told = match_part(parts([file])[0], QueryIndex.build(["red"]), str(tmp_path))
    assert told.counts == {"rows": 0, "no query": 3}
    assert pq.read_table(tmp_path / "part-000000.parquet").num_rows == 0
