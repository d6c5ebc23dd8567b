"""Texts are cut alike by us, open_clip and transformers, but for differences that are known."""

import html
import json
import os
import unicodedata
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from asking import Strangers
from odd_texts import odd_texts

from pipeline.tokenizer import Tokenizer, count_words, learn, load
from pipeline.trainer.export import tokenizer_files

pytestmark = pytest.mark.interop
_ODD = odd_texts(4_000)
_OF_OPEN_CLIP = ("<start_of_text>", "<end_of_text>")
"""Its special tokens, which it reads in a text as if they were no text."""
_CONTROLS = {chr(code) for code in range(0x1C, 0x20)}
"""Blanks to Python, and to CLIP; letters of a kind to the tokenizers package."""
_CURLY = frozenset("\u02bc\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f")
"""Quotes that we and open_clip make straight."""


def _told(strangers: Strangers, folder: Path, cutter: Tokenizer, texts: list[str]) -> Any:
    folder.mkdir()
    tokenizer_files.write(folder, cutter, 77)
    (folder / "texts.json").write_text(json.dumps(texts))
    merges = folder / tokenizer_files.VOCABULARY
    return strangers.read("open_clip", "tokens.py", folder / "texts.json", merges, folder)


def _is_known(text: str) -> bool:
    """Whether Python's tables, which are older than others', know every letter of `text`."""
    return all(unicodedata.category(letter) != "Cn" for letter in text)


def _is_plain(text: str) -> bool:
    """Whether transformers is told to read `text` as we do."""
    is_composed = unicodedata.normalize("NFC", text) == text
    is_spelled = html.unescape(html.unescape(text)) == text
    is_straight = not _CURLY.intersection(text)
    has_special = any(special in text.lower() for special in ("<|startoftext|>", "<|endoftext|>"))
    # At the end of a word Python's small sigma is another letter, and theirs is not.
    is_usual = not _CONTROLS.intersection(text) and not any(s in text for s in ("'ſ", "Σ"))
    is_usual = is_usual and not has_special
    return is_composed and is_spelled and is_straight and is_usual and _is_known(text)


def _check(told: Any, cutter: Tokenizer, texts: list[str]) -> tuple[int, int]:
    """How many texts were compared with each of both; all of them are cut alike."""
    assert told["vocabulary"] == [cutter.vocabulary] * 2
    assert told["ends"] == [[cutter.start, cutter.end]] * 2
    fixed, theirs = told["fixed"], told["open_clip"]
    first = [
        number
        for number, text in enumerate(fixed)
        if _is_known(text)
        and not any(s in html.unescape(html.unescape(text)).lower() for s in _OF_OPEN_CLIP)
    ]
    # What ftfy mends is the only other difference.
    assert [fixed[n] for n in first if cutter.encode(fixed[n]) != theirs[n]] == []
    second = [number for number, text in enumerate(texts) if _is_plain(text)]
    theirs = told["transformers"]
    assert [texts[n] for n in second if cutter.encode(texts[n]) != theirs[n]] == []
    return len(first), len(second)


def test_odd_texts_are_cut_alike_by_merges_of_our_own(strangers: Strangers, tmp_path: Path) -> None:
    cutter = Tokenizer(learn(count_words(_ODD), 700))
    told = _told(strangers, tmp_path / "made", cutter, _ODD)
    assert min(_check(told, cutter, _ODD)) > 1_500


def test_literal_special_tokens_are_text_to_all_three(strangers: Strangers, tmp_path: Path) -> None:
    cutter = Tokenizer(learn(count_words(["end of text start"] * 3), 20))
    texts = ["a <|endoftext|> b", "<|startoftext|>", "a <end_of_text> b"]
    told = _told(strangers, tmp_path / "made", cutter, texts)
    ours = [cutter.encode(text) for text in texts]
    assert not any({cutter.start, cutter.end} & set(tokens) for tokens in ours)
    assert not any({cutter.start, cutter.end} & set(tokens) for tokens in told["transformers"])
    assert told["open_clip"][:2] == ours[:2]
    # But open_clip spells its own ones otherwise, and takes those for what they say.
    assert cutter.end in told["open_clip"][2]


def test_real_captions_are_cut_alike_by_openai_s_merges(
    strangers: Strangers, tmp_path: Path
) -> None:
    data = Path(os.environ.get("WIT_DATA", ""))
    merges, captions = data / "prompts" / "bpe_simple_vocab_16e6.txt.gz", data / "captions"
    if not merges.exists() or not captions.is_dir():
        pytest.skip("set WIT_DATA to a folder with OpenAI's merges in prompts/ and with captions/")
    cutter, texts = load(merges, 48_894), list(_ODD)
    for file in sorted(captions.glob("*.parquet")):
        column = pq.read_table(file, columns=["text"]).column("text").drop_null()
        texts += column.slice(0, 4_000).to_pylist()
    told = _told(strangers, tmp_path / "made", cutter, texts)
    assert (cutter.vocabulary, cutter.end) == (49_408, 49_407)
    assert min(_check(told, cutter, texts)) > 20_000
