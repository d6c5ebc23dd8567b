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
from pipeline.text import fold, tokens


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
