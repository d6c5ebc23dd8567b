"""pipeline.lexicon, pipeline.kernels"""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import lexicon
from pipeline.kernels import Bytes
from pipeline.text import TOKEN, fold, tokens


def _bytes(text: str) -> Bytes:
    return np.frombuffer(text.encode(), np.uint8)


def _counted(text: str) -> dict[str, int]:
    found, counts = lexicon.empty(1000, 100_000), np.zeros(1000, np.int64)
    assert lexicon.count(found, _bytes(text), 0, counts) == len(text.encode())
    names = lexicon.words(found).to_pylist()
    return dict(zip(names, counts.tolist(), strict=False))


@settings(deadline=None)
@given(st.text(max_size=200))
def test_a_token_is_what_it_is_to_python(text: str) -> None:
    folded = fold(text.encode("utf-8", "replace").decode())
    assert _counted(folded) == Counter(tokens(folded))


def test_every_code_point_is_a_token_or_none_as_it_is_to_python() -> None:
    points = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    text = " ".join(points)
    size = len(points)
    found, counts = lexicon.empty(size, 4 * size), np.zeros(size, np.int64)
    lexicon.count(found, _bytes(text), 0, counts)
    assert lexicon.words(found).to_pylist() == list(dict.fromkeys(lexicon.TOKEN.findall(text)))


_TOKENS = st.text(st.sampled_from("aZ09é\u0301圓𝟙\u0903"), min_size=1, max_size=20)
_GAPS = st.text(st.sampled_from(" .…_\n\u00a0😀"), max_size=10)


def _cut(text: Bytes, begin: int, stop: int) -> list[tuple[bytes, int]]:
    """Each token of `text[begin:stop]`, and its hash."""
    is_token, found = lexicon.empty(1, 1).is_token, []
    while True:
        at, end, value, _ = lexicon.next_token(is_token, text, begin, stop)
        if at == end:
            assert end == stop
            return found
        assert lexicon.token_end(is_token, text, at, stop) == end
        found.append((text[at:end].tobytes(), int(value)))
        begin = end


@settings(deadline=None)
@given(st.lists(st.text(max_size=30) | st.tuples(_GAPS, _TOKENS).map("".join), max_size=8))
def test_a_text_is_cut_as_if_nothing_stood_behind_it(texts: list[str]) -> None:
    folded = [fold(text.encode("utf-8", "replace").decode()) for text in texts]
    raw = [text.encode() for text in folded]
    together, begin = np.frombuffer(b"".join(raw), np.uint8), 0
    for text, own in zip(folded, raw, strict=True):
        alone = _cut(np.frombuffer(own, np.uint8), 0, len(own))
        assert [token for token, _ in alone] == [token.encode() for token in TOKEN.findall(text)]
        assert _cut(together, begin, begin + len(own)) == alone
        begin += len(own)


@settings(deadline=None)
@given(st.text(min_size=1, max_size=30), st.text(max_size=9), st.text(max_size=9))
def test_a_hash_is_of_the_letters_and_not_of_their_place(word: str, head: str, tail: str) -> None:
    head, word, tail = (text.encode("utf-8", "replace").decode() for text in (head, word, tail))
    own, begin = _bytes(word), len(head.encode())
    expected = lexicon.hash_of(own, 0, len(own))
    assert lexicon.hash_of(_bytes(head + word + tail), begin, begin + len(own)) == expected
    assert lexicon.hash_of(_bytes(head + word), begin, begin + len(own)) == expected


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=8), st.binary(min_size=1, max_size=8))
def test_no_two_words_of_one_length_up_to_8_bytes_have_one_hash(one: bytes, other: bytes) -> None:
    size = min(len(one), len(other))
    texts = [np.frombuffer(text[:size], np.uint8) for text in (one, other)]
    hashes = [int(lexicon.hash_of(text, 0, size)) for text in texts]
    assert (hashes[0] == hashes[1]) == (one[:size] == other[:size])


@settings(deadline=None)
@given(st.binary(max_size=100))
def test_no_bytes_stop_it(raw: bytes) -> None:
    found, counts = lexicon.empty(1000, 100_000), np.zeros(1000, np.int64)
    assert lexicon.count(found, np.frombuffer(raw, np.uint8), 0, counts) == len(raw)


def test_words_are_numbered_in_their_order_and_found_again() -> None:
    words = [f"w{n}" for n in range(1000)] + ["é", "e\u0301x", "圓"]
    found = lexicon.of(words)
    assert lexicon.words(found).to_pylist() == words
    for number, word in enumerate(words):
        text = _bytes(f". {word} ")
        begin, end, value, _ = lexicon.next_token(found.is_token, text, 0, len(text))
        assert lexicon.find(*found[1:5], text, begin, end, np.uint64(value))[0] == number
    text = _bytes("other")
    begin, end, value, _ = lexicon.next_token(found.is_token, text, 0, len(text))
    assert lexicon.find(*found[1:5], text, begin, end, np.uint64(value))[0] == -1


@pytest.mark.parametrize("words", [["a", "a"], ["a b"], ["…"]])
def test_a_lexicon_is_of_distinct_tokens(words: list[str]) -> None:
    with pytest.raises(ValueError, match="distinct tokens"):
        lexicon.of(words)


def test_a_slice_of_an_array_is_read_and_no_more() -> None:
    array = pa.array(["a\n", "b\n", "c\n", "d\n"])
    assert lexicon.joined(array[1:3]).tobytes() == b"b\nc\n"
    assert lexicon.joined(pa.array([], pa.string())).tobytes() == b""


def test_where_machine_code_cannot_be_kept_it_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    code = (
        "import numpy as np; from pipeline import lexicon; found = lexicon.of(['a', 'b']);"
        "print(lexicon.words(found).to_pylist())"
    )
    told = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "file")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == "['a', 'b']\n"
