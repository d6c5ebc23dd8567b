"""Tokenizer: byte-level BPE in CLIP's layout, trained from word counts.

Tokens are numbered: 256 bytes, the 256 that end a word, the merges in the order they were
learned, the start, the end. Files are written and read in the format of OpenAI's
bpe_simple_vocab_16e6.txt.gz.
"""

import gzip
import hashlib
import html
import io
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import lexicon
from pipeline import merges as merging
from pipeline.errors import BadInput
from pipeline.text import of_category, ranges

Pair = tuple[str, str]

VOCABULARY = "vocabulary.txt.gz"
"""The file of a run's merges."""
MAX_WORD_BYTES = 1024
"""Longer words are cut: BPE takes quadratic time, and such a word is no word."""
_HEADER = "#version: 0.2 byte-level BPE, a merge per line"
_END_OF_WORD = "</w>"
_MAX_FILE_BYTES = 64 * 2**20
"""Unpacked; OpenAI's file is 3 MB. A file that unpacks without end is refused."""
_MAX_CACHED_WORDS = 2**18
_FIXED_TOKENS = 514
"""Bytes, bytes that end a word, the start and the end; the others are merges."""


def _byte_symbols() -> dict[int, str]:
    """A printable character for each byte, in the order of CLIP's vocabulary."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    symbols = {byte: chr(byte) for byte in printable}
    return symbols | {byte: chr(256 + place) for place, byte in enumerate(others)}


_SYMBOL_OF = _byte_symbols()
_SYMBOLS = list(_SYMBOL_OF.values())
_BYTE_OF = {symbol: byte for byte, symbol in _SYMBOL_OF.items()}

# OpenAI's pattern, without its two special tokens: a caption that spells one is only text.
_N = ranges(of_category("N"))
_WORD = re.compile(rf"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\W_{_N}]+|[{_N}]|(?:(?![^\W_]|[{_N}])\S)+")
_STRAIGHT = dict.fromkeys(map(ord, "\u02bc\u2018\u2019\u201a\u201b"), "'")
_STRAIGHT |= dict.fromkeys(map(ord, "\u201c\u201d\u201e\u201f"), '"')
"""Curly quotes, as ftfy makes them straight, which CLIP's captions went through: nearly all that it
changes in real ones."""


def words(text: str) -> list[str]:
    """The words of `text`, cleaned as CLIP cleans it (but for mojibake) and in lower case."""
    # Blanks are in no word, so that there is no need to make one of many.
    text = html.unescape(html.unescape(text))
    if not text.isascii():
        text = text.translate(_STRAIGHT)
    return _WORD.findall(text.lower())


def count_words(captions: Iterable[str]) -> Counter[str]:
    """How often each word occurs in `captions`."""
    counts: Counter[str] = Counter()
    for caption in captions:
        counts.update(words(caption))
    return counts


def _symbols(word: str) -> list[str]:
    # A lone surrogate is not UTF-8; it stands for a byte that never was text.
    spelled = [_SYMBOL_OF[b] for b in word.encode("utf-8", "replace")[:MAX_WORD_BYTES]]
    return [*spelled[:-1], spelled[-1] + _END_OF_WORD]


def _merged(symbols: list[str], pair: Pair) -> list[str]:
    """`symbols` with every occurrence of `pair` joined, from the left."""
    out: list[str] = []
    i = 0
    while i < len(symbols):
        if symbols[i] == pair[0] and i + 1 < len(symbols) and symbols[i + 1] == pair[1]:
            out.append(pair[0] + pair[1])
            i += 2
        else:
            out.append(symbols[i])
            i += 1
    return out


def learn(counts: Mapping[str, int], merges: int) -> list[Pair]:
    """At most `merges` merges: each joins the most frequent pair of neighbours in the words.

    Of pairs with equal counts the one that sorts first is joined, so that the order of the words
    does not matter. Ends early when no pair occurs twice.
    """
    # A lone surrogate is not UTF-8; it stands for a byte that never was text.
    spelled = pa.array([word.encode("utf-8", "replace") for word in counts], pa.binary())
    often = np.fromiter(counts.values(), np.int64)
    return learn_counted(pa.chunked_array([spelled]), often, merges)


def learn_counted(
    spelled: pa.ChunkedArray, counts: npt.NDArray[np.int64], merges: int
) -> list[Pair]:
    """As `learn`, from an Arrow column of words and their counts."""
    parts, sizes = [], []
    for chunk in spelled.chunks:
        cut = pc.binary_slice(chunk.cast(pa.binary()), 0, MAX_WORD_BYTES)
        parts.append(lexicon.joined(cut))
        sizes.append(pc.binary_length(cut).to_numpy())
    lengths = np.concatenate([np.zeros(1, np.int64), *sizes])
    is_word = lengths[1:] > 0
    bounds = np.cumsum(np.concatenate([lengths[:1], lengths[1:][is_word]]))
    letters = np.concatenate([np.empty(0, np.uint8), *parts])
    spelling = [_SYMBOL_OF[byte] for byte in range(256)]
    symbols = [*spelling, *(symbol + _END_OF_WORD for symbol in spelling)]
    return merging.learn(letters, bounds, counts[is_word], symbols, merges)


class Tokenizer:
    """Captions to tokens."""

    def __init__(self, merges: list[Pair]) -> None:
        self.merges = merges
        self._rank = {pair: rank for rank, pair in enumerate(merges)}
        self._tokens = [*_SYMBOLS, *(s + _END_OF_WORD for s in _SYMBOLS), *map("".join, merges)]
        self._number = {token: number for number, token in enumerate(self._tokens)}
        self._cache: dict[str, list[int]] = {}

    @property
    def vocabulary(self) -> int:
        """How many tokens there are, the start and the end included."""
        return len(self._tokens) + 2

    @property
    def start(self) -> int:
        return len(self._tokens)

    @property
    def end(self) -> int:
        return len(self._tokens) + 1

    @property
    def tokens(self) -> list[str]:
        """How each token is spelled, in the order of their numbers, but for the start and end."""
        return self._tokens

    @cached_property
    def digest(self) -> str:
        """sha256 of the merges: two tokenizers with the same one cut every text alike."""
        return hashlib.sha256(_lines(self.merges).encode()).hexdigest()

    def encode(self, text: str) -> list[int]:
        """The tokens of `text`, without start and end."""
        numbers: list[int] = []
        known = self._cache
        for word in words(text):
            numbers += known.get(word) or self._of_word(word)
        return numbers

    def encode_batch(self, texts: list[str], context: int) -> npt.NDArray[np.int64]:
        """BL: start, tokens, end, zeros. Texts that are too long lose their tail, not their end."""
        tokens_BL = np.zeros((len(texts), context), dtype=np.int64)
        for row, text in zip(tokens_BL, texts, strict=True):
            self.encode_into(row, text)
        return tokens_BL

    def encode_into(self, row_L: npt.NDArray[np.integer], text: str) -> None:
        """As a row of `encode_batch`, where there is a place for it."""
        inner = self.encode(text)[: len(row_L) - 2]
        inner.append(self.end)
        row_L[0] = self.start
        row_L[1 : len(inner) + 1] = inner
        row_L[len(inner) + 1 :] = 0

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of `tokens`; start, end and padding after the end are left out."""
        spelled = []
        for token in tokens:
            if token == self.end:
                break
            if token != self.start:
                spelled.append(self._tokens[token])
        text = "".join(spelled).replace(_END_OF_WORD, " ")
        raw = b"".join(b" " if s == " " else bytes([_BYTE_OF[s]]) for s in text)
        return raw.decode("utf-8", "replace").strip()

    def _of_word(self, word: str) -> list[int]:
        found = [self._number[symbol] for symbol in self._joined(_symbols(word))]
        if len(self._cache) < _MAX_CACHED_WORDS:
            self._cache[word] = found
        return found

    def _joined(self, symbols: list[str]) -> list[str]:
        unknown = len(self._rank)
        while len(symbols) > 1:
            pairs = pairwise(symbols)
            best = min(pairs, key=lambda pair: self._rank.get(pair, unknown))
            if best not in self._rank:
                break
            symbols = _merged(symbols, best)
        return symbols

    def save(self, path: Path) -> None:
        """Write the merges; equal tokenizers make equal files."""
        packed = io.BytesIO()
        with gzip.GzipFile("", "wb", fileobj=packed, mtime=0) as stream:
            # open_clip would take a line break at the end for one merge more.
            stream.write(f"{_HEADER}\n{_lines(self.merges)}".removesuffix("\n").encode())
        staged = path.with_name(f".{path.name}")
        staged.write_bytes(packed.getvalue())
        staged.replace(path)


def _lines(merges: list[Pair]) -> str:
    return "".join(f"{left} {right}\n" for left, right in merges)


def load(path: Path, merges: int | None = None) -> Tokenizer:
    """The tokenizer of a merges file; of its first `merges` merges, where the file has more.

    Raises BadInput for a file that is not one, naming the line.
    """
    try:
        with gzip.open(path, "rb") as stream:
            content = stream.read(_MAX_FILE_BYTES + 1)
        # Others end lines in their own way, and files with empty ones.
        head, *lines = content.decode("utf-8").replace("\r\n", "\n").rstrip("\n").split("\n")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not a gzipped merges file: {error}") from None
    if len(content) > _MAX_FILE_BYTES:
        raise BadInput(f"{path} unpacks to more than {_MAX_FILE_BYTES:,} bytes: no merges file")
    known = {s + end for s in _SYMBOLS for end in ("", _END_OF_WORD)}
    if not head or known.issuperset(head.split(" ")):
        raise BadInput(f"{path}, line 1: not a merges file's first line, which holds no merge")
    learned: dict[Pair, None] = {}
    for number, line in enumerate(lines[:merges], start=2):
        left, _, right = line.partition(" ")
        if left not in known or right not in known:
            raise BadInput(f"{path}, line {number}: not two tokens known by then: `{line[:60]}`")
        if (left, right) in learned:
            raise BadInput(f"{path}, line {number}: a merge that was there before: `{line[:60]}`")
        learned[left, right] = None
        known.add(left + right)
    return Tokenizer(list(learned))


def load_for(path: Path, tokens: int) -> Tokenizer:
    """The tokenizer of a merges file for a model of so many tokens, which may use fewer merges than
    the file has: OpenAI's do. Raises BadInput as `load` does."""
    return load(path, max(0, tokens - _FIXED_TOKENS))
