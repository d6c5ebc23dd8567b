"""Byte-level BPE in CLIP's layout."""

import gzip
import html
import os
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import merges
from pipeline.errors import BadInput
from pipeline.tokenizer import Tokenizer, count_words, learn, load, words

CAPTIONS = ["the cat sat on the mat", "The cat's hat", "that café, 2 cats &amp; 10 dogs! 🐈"]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(learn(count_words(CAPTIONS * 3), 100))


def test_words_are_lower_case_and_unescaped_and_digits_stand_alone():
    text = "  It's&nbsp;a CAFÉ &amp;amp; 10½ ab_c…\n"
    assert words(text) == ["it", "'s", "a", "café", "&", "1", "0", "½", "ab", "_", "c", "…"]


def test_curly_quotes_are_read_as_straight_ones():
    assert words("it\u2019s \u201cone\u201d we&rsquo;ll") == [
        "it",
        "'s",
        '"',
        "one",
        '"',
        "we",
        "'ll",
    ]


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_every_word_survives_encoding_and_decoding(text):
    tokenizer = Tokenizer(learn(count_words(CAPTIONS), 50))
    expected = " ".join(words(text)).encode("utf-8", "replace").decode()
    assert tokenizer.decode(tokenizer.encode(text)) == expected


def test_the_layout_is_bytes_then_ends_of_words_then_merges_then_start_and_end(tokenizer):
    assert tokenizer.vocabulary == 512 + len(tokenizer.merges) + 2
    assert (tokenizer.start, tokenizer.end) == (tokenizer.vocabulary - 2, tokenizer.vocabulary - 1)
    bare = Tokenizer([])
    assert bare.encode("!") == [256]
    assert bare.encode("ab") == [ord("a") - ord("!"), 256 + ord("b") - ord("!")]


def test_the_spelled_end_of_a_text_is_text(tokenizer):
    assert tokenizer.end not in tokenizer.encode("a <|endoftext|> b <|startoftext|>")
    assert tokenizer.decode(tokenizer.encode("<|endoftext|>")) == "<| endoftext |>"


def test_texts_that_are_too_long_lose_their_tail_and_keep_their_end(tokenizer):
    batch = tokenizer.encode_batch(["cat", "dogs " * 50], 8)
    assert batch.shape == (2, 8)
    assert batch[0].tolist()[2:] == [tokenizer.end, 0, 0, 0, 0, 0]
    assert batch[1, 0] == tokenizer.start
    assert batch[1, -1] == tokenizer.end


def test_the_most_frequent_pair_is_joined_first_and_ties_go_to_the_first_in_order():
    counts = {"xyz": 2, "ab": 2, "cb": 3}
    assert learn(counts, 3) == [("c", "b</w>"), ("a", "b</w>"), ("x", "y")]


def test_merging_ends_when_no_pair_occurs_twice():
    assert learn({"ab": 1, "cd": 1}, 10) == []
    assert len(learn({"abc": 2}, 10)) == 2


def test_the_order_of_the_captions_does_not_matter():
    forward, backward = count_words(CAPTIONS), count_words(reversed(CAPTIONS))
    assert learn(forward, 60) == learn(backward, 60)


def _learned_slowly(counts, merges):
    """Counts every pair again before each merge."""
    spelled = {word: [*word[:-1], word[-1] + "</w>"] for word in counts}
    out = []
    for _ in range(merges):
        total = Counter()
        for word, symbols in spelled.items():
            for pair in pairwise(symbols):
                total[pair] += counts[word]
        if not total:
            break
        best = min(total, key=lambda pair: (-total[pair], pair))
        if total[best] < 2:
            break
        out.append(best)
        for symbols in spelled.values():
            i = 0
            while i < len(symbols) - 1:
                if (symbols[i], symbols[i + 1]) == best:
                    symbols[i : i + 2] = ["".join(best)]
                i += 1
    return out


_COUNTS = st.dictionaries(st.text("abc", min_size=1, max_size=12), st.integers(1, 5), max_size=12)
_NEAR_THE_END = st.dictionaries(st.text("a</w>", min_size=1, max_size=12), st.integers(1, 3))


@settings(max_examples=200, deadline=None)
@given(_COUNTS | _NEAR_THE_END)
def test_counting_in_steps_learns_what_counting_anew_learns(counts):
    assert learn(counts, 30) == _learned_slowly(counts, 30)


@settings(max_examples=100, deadline=None)
@given(_COUNTS)
def test_learning_that_must_make_room_at_every_merge_learns_the_same(counts):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merges, "_SPARE", 0)
        assert learn(counts, 30) == _learned_slowly(counts, 30)


def test_a_long_word_is_learned_from_as_far_as_it_is_encoded():
    long, cut = "ab" * 700, "ab" * 512
    assert learn({long: 2}, 30) == learn({cut: 2}, 30)
    assert max(len(left + right) for left, right in learn({long: 2}, 30)) == 1024 + len("</w>")


def test_words_without_letters_are_no_words_to_learn_from():
    assert learn({"": 9, "ab": 2}, 5) == [("a", "b</w>")]
    assert learn({}, 5) == []


def test_a_saved_tokenizer_is_read_back_and_equal_ones_make_equal_files(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "a.txt.gz")
    load(tmp_path / "a.txt.gz").save(tmp_path / "b.txt.gz")
    again = load(tmp_path / "b.txt.gz")
    assert again.merges == tokenizer.merges
    assert again.digest == tokenizer.digest
    assert (tmp_path / "a.txt.gz").read_bytes() == (tmp_path / "b.txt.gz").read_bytes()


@pytest.mark.parametrize("count", [0, 1, 60])
def test_every_line_of_a_file_behind_its_first_is_a_merge(tmp_path, count):
    made = Tokenizer(learn(count_words(CAPTIONS * 3), count) if count else [])
    made.save(tmp_path / "a.txt.gz")
    lines = gzip.decompress((tmp_path / "a.txt.gz").read_bytes()).decode().split("\n")
    assert [tuple(line.split(" ")) for line in lines[1:]] == made.merges
    assert load(tmp_path / "a.txt.gz").merges == made.merges


def test_only_as_many_merges_are_read_as_are_asked_for(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "a.txt.gz")
    assert load(tmp_path / "a.txt.gz", 3).merges == tokenizer.merges[:3]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"not gzip", "not a gzipped merges file"),
        (gzip.compress(b""), "line 1: not a merges file's first line"),
        (gzip.compress(b"t h\nth e\n"), "line 1: not a merges file's first line"),
        (gzip.compress(b"#version\nt h\nt h\n"), "line 3: a merge that was there before: `t h`"),
        (gzip.compress(b"#version\nt h\nzz y\n"), "line 3: not two tokens known by then: `zz y`"),
        (gzip.compress(b"#version\n\xff\n"), "not a gzipped merges file"),
        (gzip.compress(b"#version\nt h\n" * 20)[:-12], "not a gzipped merges file"),
        (gzip.compress(bytes(65 * 2**20)), "unpacks to more than"),
    ],
)
def test_a_file_that_is_no_merges_file_is_refused_and_named(tmp_path, content, says):
    path = tmp_path / "v.txt.gz"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=says) as told:
        load(path)
    assert str(path) in str(told.value)


@pytest.fixture(scope="module")
def openai():
    path = Path(os.environ.get("WIT_DATA", "")) / "prompts" / "bpe_simple_vocab_16e6.txt.gz"
    if not path.exists():
        pytest.skip("OpenAI's merges are not here: set WIT_DATA to a folder with prompts/ in it")
    return load(path, 48_894)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("a diagram", [320, 22697]),
        ("a dog", [320, 1929]),
        ("a photo of a cat", [320, 1125, 539, 320, 2368]),
        ("hello world!", [3306, 1002, 256]),
    ],
)
def test_openai_s_merges_give_openai_s_tokens(openai, text, tokens):
    assert openai.encode(text) == tokens
    expected = [49_406, *tokens, 49_407, *[0] * (75 - len(tokens))]
    assert np.array_equal(openai.encode_batch([text], 77)[0], expected)


def test_openai_s_merges_are_applied_as_openai_applies_them(openai):
    text = (Path(os.environ["WIT_DATA"]) / "prompts" / "clip_prompts.md").read_text()[:20_000]
    rank = {pair: number for number, pair in enumerate(openai.merges)}
    for word in set(words(text)):
        if not word.isascii():
            continue
        symbols = (*word[:-1], word[-1] + "</w>")
        while len(symbols) > 1:
            best = min(pairwise(symbols), key=lambda pair: rank.get(pair, 10**9))
            if best not in rank:
                break
            joined, i = [], 0
            while i < len(symbols):
                is_best = symbols[i : i + 2] == best
                joined.append("".join(best) if is_best else symbols[i])
                i += 2 if is_best else 1
            symbols = tuple(joined)
        assert "".join(symbols).replace("</w>", "") == openai.decode(openai.encode(word))
        assert len(symbols) == len(openai.encode(word))


@settings(deadline=None)
@given(st.text(), st.integers(3, 40))
def test_a_row_that_is_filled_in_place_is_that_of_a_batch(text, context):
    tokenizer = Tokenizer(learn(count_words(CAPTIONS), 50))
    row = np.full(context, 7, dtype=np.int32)
    tokenizer.encode_into(row, text)
    assert np.array_equal(row, tokenizer.encode_batch([text], context)[0])


@given(st.lists(st.text(alphabet="ab'1! \t\n\u2003\x1c&;#", max_size=30)))
def test_blanks_of_any_kind_and_number_part_words_and_nothing_else(parts):
    text = "".join(parts)
    cleaned = re.sub(r"\s+", " ", html.unescape(html.unescape(text))).strip()
    assert words(text) == words(cleaned)


def test_a_file_whose_lines_end_as_elsewhere_is_the_same_file(tmp_path):
    for number, content in enumerate([b"#v\na b\nab c", b"#v\r\na b\r\nab c\r\n\r\n"]):
        (tmp_path / f"{number}.gz").write_bytes(gzip.compress(content))
    assert (
        load(tmp_path / "0.gz").merges
        == load(tmp_path / "1.gz").merges
        == [("a", "b"), ("ab", "c")]
    )


@pytest.mark.parametrize("counts", [{"ab": -1, "cd": 9}, {"ab" * 512: 2**53, "cd": 9}])
def test_counts_whose_sums_would_be_wrong_are_refused(counts):
    with pytest.raises(ValueError, match=r"a word that occurs -1|have no room"):
        learn(counts, 3)


def test_a_long_word_that_occurs_a_million_million_times_is_learned_from():
    assert learn({"ab" * 512: 10**12, "xyz": 5, "q": 0}, 3)[0] == ("a", "b")
