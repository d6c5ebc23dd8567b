"""Index: the query list, ready to be looked for in captions.

The file is a line that says what it is, a line of JSON that says where each array lies and what the
SHA-256 of all of them is, and the arrays, each at a multiple of 64 bytes, little-endian.
"""

import hashlib
import json
import mmap
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import BadInput
from pipeline.kernels import Bytes
from pipeline.lexicon import bounded
from pipeline.match import trie, words
from pipeline.match.folding import PADDING, fold_plain, folds, space
from pipeline.match.words import Ints, Longs, Words
from pipeline.text import TOKEN, encodable, fold, normalise

Semantics = Literal["tokens", "metaclip"]

_MAGIC = b"webimagetext query index 3\n"
_ALIGNED = 64
_MAX_MATCHES = (1 << 31) - 1
"""Of one array of lists with offsets of 32 bits."""
_PIECE_BYTES = 1 << 22
"""Of captions that are folded together: a character becomes eighteen at most (U+FDFA), so that no
32-bit offset is passed, and memory has a bound whatever is in them."""
_MAX_CAPTION_BYTES = 1 << 27
_LOAD = 0.6
"""Of the tables, at most: searches that find nothing read 2 slots on average."""
_KINDS = np.zeros(256, np.uint8)
"""Of bytes, for `space`: what MetaCLIP puts spaces around, and what it takes for one."""
_KINDS[list(b",.;:?!`")] = 1
_KINDS[list(b"\t\n\r")] = 2


class _Arrays(NamedTuple):
    """The first arguments of `trie.search`."""

    heads: Any
    ends: Any
    letters: Any
    table: Any
    passes: Any


_TYPES = _Arrays("<u8", "<i4", "|u1", "<u8", "<u8")


class QueryIndex:
    """A trie of tokens over a list of queries. A query's id is its place in the list.

    `tokens`: a query matches where its tokens stand side by side in the caption; tokens are those
    of `pipeline.text`. `metaclip`: a query matches where it stands between spaces in the caption,
    after spaces were put around , . ; : ? ! ` and for tabs and line ends; case counts (MetaCLIP,
    `substr_matching`).
    """

    def __init__(self, arrays: _Arrays, queries: int, semantics: Semantics) -> None:
        self._arrays = arrays
        self.size = queries
        """How many queries there are."""
        self.semantics: Semantics = semantics

    @classmethod
    def build(cls, queries: Sequence[str], semantics: Semantics = "tokens") -> "QueryIndex":
        """An index of distinct queries, for `tokens` normalised. Raises BadInput for others."""
        _check(queries, semantics)
        text, bounds = _padded(pa.array([f"{query} " for query in queries], pa.string()))
        most = int(np.count_nonzero(text == ord(" ")))  # a word has a space behind it
        numbers, begins = np.empty(most, np.int32), np.empty(len(queries) + 1, np.int64)
        hashes, ends = np.empty(most, np.uint64), np.zeros(most + 1, np.int32)
        letters = np.empty(len(text), np.uint8)
        has_empty = semantics == "metaclip"
        first = _table(most, words.SLOT)
        known = words.intern(text, bounds, has_empty, first, hashes, ends, letters, numbers, begins)
        edges = int(begins[-1])
        keys, infos = np.zeros(edges, np.uint64), np.zeros(known + edges + 1, np.int32)
        nodes, twin = trie.grow(numbers, begins, known, _table(edges), keys, infos)
        if twin >= 0:
            raise BadInput(
                f"the query list names {queries[twin]!r} twice: run `wit derive --again`"
            )
        table = _table(nodes - known)
        passes = np.zeros(1 << trie.FILTER_BITS - 6, np.uint64)
        trie.lay(keys[: nodes - known], infos, known, table, passes)
        ends = ends[: known + 1].copy()
        heads = _table(known, words.SLOT)
        words.head(hashes[:known], ends, letters, infos, heads)
        arrays = _Arrays(heads, ends, letters[: max(ends[-1], 1)].copy(), table, passes)
        return cls(arrays, len(queries), semantics)

    @property
    def size_bytes(self) -> int:
        """Of all arrays: what a process that matches holds, shared with all that load one file."""
        return sum(array.nbytes for array in self._arrays)

    @cached_property
    def sha256(self) -> str:
        """Of all that decides what it finds, hex."""
        digest = hashlib.sha256(f"{self.semantics} {self.size}".encode())
        for array in self._arrays:
            digest.update(array)
        return digest.hexdigest()

    def _head(self) -> bytes:
        """The first lines of its file: the one head that these arrays can have."""
        at, places = 0, {}
        for name, array in zip(_Arrays._fields, self._arrays, strict=True):
            places[name] = [at, len(array)]
            at += -(-array.nbytes // _ALIGNED) * _ALIGNED
        told = {"semantics": self.semantics, "queries": self.size, "arrays": places, "bytes": at}
        head = _MAGIC + json.dumps({**told, "sha256": self.sha256}).encode()
        return head + b" " * (-(len(head) + 1) % _ALIGNED) + b"\n"

    def save(self, path: str | Path) -> None:
        """Write the index to a file that `load` reads; the file is there whole or not at all."""
        staged = Path(path).with_name(f".{Path(path).name}.{uuid4().hex}")
        try:
            with staged.open("wb") as file:
                file.write(self._head())
                for array in self._arrays:
                    file.write(array)
                    file.write(b"\0" * (-array.nbytes % _ALIGNED))
            staged.replace(path)
        finally:
            staged.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path) -> "QueryIndex":
        """The index that `save` wrote, mapped into memory. Raises BadInput for any other file."""
        try:
            with Path(path).open("rb") as file:
                head = file.read(len(_MAGIC)) + file.readline(1 << 16)
                if not head.startswith(_MAGIC):
                    raise ValueError("it begins otherwise")
                # Private, so that its pages are shared as long as nobody writes, and arrays have
                # the type that the compiled search knows from those that were built.
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            told = json.loads(head[len(_MAGIC) :])
            if len(mapped) != len(head) + told["bytes"]:
                raise ValueError("it has another length")
            found = []
            for name, kind in zip(_Arrays._fields, _TYPES, strict=True):
                begin, size = told["arrays"][name]
                found.append(np.frombuffer(mapped, kind, size, len(head) + begin))
            arrays = _Arrays(*found)
            index = cls(arrays, int(told["queries"]), told["semantics"])
            if index._head() != head:
                raise ValueError("its bytes have changed")
            # Whoever made the file may have made a digest to fit.
            if index.semantics not in get_args(Semantics) or not trie.fits(*arrays, index.size):
                raise ValueError("its arrays do not fit each other")
            return index
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise BadInput(
                f"{path} is no query index that this version wrote ({error}): "
                "run `wit match --again`, or QueryIndex.save once more"
            ) from None

    def match(self, captions: pa.StringArray) -> pa.ListArray:
        """The ids of the queries in each caption, ascending and each once, as list<int32>.

        `captions` are strings or bytes of any kind that Arrow has; a null is read as an empty one,
        and bytes that are no UTF-8 as U+FFFD. Raises BadInput where an array has more matches than
        int32 counts, and for a caption of more than 128 MiB.
        """
        found = [self._found(texts) for texts in pieces(captions)]
        if sum(len(values) for _, values in found) > _MAX_MATCHES:
            raise BadInput(f"{len(captions)} captions have too many matches: pass fewer at a time")
        lists = [
            pa.ListArray.from_arrays(pa.array(begins.astype(np.int32)), pa.array(values))
            for begins, values in found
        ]
        if len(lists) == 1:  # as nearly always: nothing is copied
            return lists[0]
        return pa.concat_arrays([pa.array([], pa.list_(pa.int32())), *lists])

    def _found(self, texts: pa.StringArray) -> tuple[Longs, Ints]:
        """Where the ids of each text begin, and the last ones end; and the ids."""
        has_empty = self.semantics == "metaclip"
        text, bounds = _spaced(texts) if has_empty else _folded(texts)
        begins = np.zeros(len(bounds), np.int64)
        values, row = np.empty(16 * len(bounds) + 1024, np.int32), 0
        while True:
            row = trie.search(
                *self._arrays, self.size, text, bounds, has_empty, row, values, begins
            )
            if row == len(texts):
                return begins, values[: begins[-1]]
            room = np.empty(2 * len(values), np.int32)
            values = np.concatenate([values[: begins[row]], room])

    def queries_in(self, caption: str) -> list[int]:
        """The ids of the queries in one caption, ascending."""
        found: list[int] = self.match(pa.array([caption], pa.string()))[0].as_py()
        return found


def _check(queries: Sequence[str], semantics: Semantics) -> None:
    if semantics not in get_args(Semantics):
        raise BadInput(f"match.semantics: {semantics!r} is not one of {get_args(Semantics)}")
    if not queries:
        raise BadInput("the query list is empty: run `wit derive` with other sources")
    for place, query in enumerate(queries):
        if not isinstance(query, str):
            raise BadInput(f"query {place} is {query!r} and no text: run `wit derive --again`")
        if encodable(query) != query:
            raise BadInput(
                f"query {place} is {query!r}, half a character: run `wit derive --again`"
            )
        is_plain = semantics == "metaclip" or (query and normalise(query) == query)
        if not is_plain:
            raise BadInput(f"the query {query!r} is not normalised: run `wit derive --again`")


def _table(filled: int, width: int = 2) -> Words:
    """A power of two of empty slots, so many numbers each, of which so many will be filled."""
    return np.zeros(width << max(4, int(filled / _LOAD).bit_length()), np.uint64)


def pieces(captions: pa.Array) -> Iterator[pa.StringArray]:
    """Captions as valid strings without nulls, so many at a time that they have _PIECE_BYTES, or
    one that has more."""
    raw = captions.cast(pa.large_binary()).fill_null(b"")
    if isinstance(raw, pa.ChunkedArray):
        raw = raw.combine_chunks()
    _, offsets, letters = raw.buffers()
    bounds = np.frombuffer(offsets or bytes(8), np.int64)[raw.offset :][: len(raw) + 1]
    first = 0
    while first < len(raw):
        behind = int(np.searchsorted(bounds, bounds[first] + _PIECE_BYTES, side="right")) - 1
        stop = min(max(behind, first + 1), len(raw))
        size = int(bounds[stop] - bounds[first])
        if size > _MAX_CAPTION_BYTES:
            raise BadInput(f"caption {first} has {size:,} bytes: leave out what is no caption")
        begins = pa.py_buffer((bounds[first : stop + 1] - bounds[first]).astype(np.int32))
        body = letters.slice(int(bounds[first]), size) if size else pa.py_buffer(b"")
        texts = pa.Array.from_buffers(pa.binary(), stop - first, [None, begins, body])
        try:
            yield texts.cast(pa.string())
        except pa.ArrowInvalid:  # no UTF-8
            yield pa.array([text.decode("utf-8", "replace") for text in texts.to_pylist()])
        first = stop


def _folded(texts: pa.StringArray) -> tuple[Bytes, Longs]:
    """Captions as `pipeline.text` folds them, nearly all without Python, and their bounds."""
    text, bounds = bounded(texts)
    folded = np.empty(len(text) + len(texts) + PADDING, np.uint8)
    is_foreign = np.zeros(len(texts), np.bool_)
    foreign = fold_plain(folds(), text, bounds, folded, is_foreign)
    bounds += np.arange(len(bounds))
    if not foreign:
        return folded, bounds
    mask = pa.array(is_foreign)
    # Lines fold apart, so that one call folds them all; a line end parts tokens as a space does.
    lines = [text.replace("\n", " ") for text in texts.filter(mask).to_pylist()]
    others = [" ".join(TOKEN.findall(line)) + " " for line in fold("\n".join(lines)).split("\n")]
    offsets, letters = pa.py_buffer(bounds.astype(np.int32)), pa.py_buffer(folded)
    plain = pa.StringArray.from_buffers(len(texts), offsets, letters)
    whole = pc.replace_with_mask(plain, mask, pa.array(others, pa.string()))
    return _padded(whole)


def _spaced(texts: pa.StringArray) -> tuple[Bytes, Longs]:
    """Captions as MetaCLIP spaces them, and their bounds."""
    text, bounds = bounded(texts)
    marks = np.count_nonzero(_KINDS[text] == 1)
    spaced = np.empty(len(text) + 2 * marks + len(bounds) + PADDING, np.uint8)
    begins = np.empty_like(bounds)
    space(_KINDS, text, bounds, spaced, begins)
    return spaced, begins


def _padded(texts: pa.StringArray) -> tuple[Bytes, Longs]:
    """Texts with a space behind each as the compiled loops take them, and their bounds."""
    text, bounds = bounded(texts)
    return np.concatenate([text, np.full(PADDING, ord(" "), np.uint8)]), bounds
