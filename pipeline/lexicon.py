"""Lexicon: words and their numbers, in one open-addressing table that compiled loops can search.

Texts are UTF-8, folded by `pipeline.text.fold`; a token here is a token there. Words are compared
byte by byte, so that equal hashes do no harm.
"""

from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.kernels import FNV_BASIS, FNV_PRIME, Bytes, kernel
from pipeline.text import TOKEN


class Lexicon(NamedTuple):
    """Words, numbered from 0 in the order of their coming."""

    is_token: npt.NDArray[np.bool_]
    """Of every code point."""
    slots: npt.NDArray[np.int32]
    """A word's number and 1, at its hash or behind; 0 where there is none. A power of two long."""
    hashes: npt.NDArray[np.uint64]
    ends: npt.NDArray[np.int32]
    """Where each word ends in `letters`, behind a 0."""
    letters: Bytes
    size: npt.NDArray[np.int64]
    """One number: how many words there are."""


def empty(words: int, letters: int) -> Lexicon:
    """A lexicon with room for so many words, of so many bytes in all."""
    slots = 1 << max(4, (2 * words - 1).bit_length())
    return Lexicon(
        _token_points(),
        np.zeros(slots, np.int32),
        np.zeros(words, np.uint64),
        np.zeros(words + 1, np.int32),
        np.empty(letters, np.uint8),
        np.zeros(1, np.int64),
    )


def of(words: Iterable[str]) -> Lexicon:
    """The lexicon of distinct tokens, each numbered by its place."""
    listed = list(words)
    text = np.frombuffer("\n".join(listed).encode(), np.uint8)
    lexicon = empty(max(len(listed), 1), max(len(text), 1))
    counts = np.zeros(max(len(listed), 1), np.int64)
    stopped = count(lexicon, text, 0, counts)
    if stopped < len(text) or counts.sum() != len(listed) or lexicon.size[0] != len(listed):
        raise ValueError(f"{len(listed)} words are not as many distinct tokens")
    return lexicon


def words(lexicon: Lexicon) -> pa.StringArray:
    """Its words, in their order, without a copy."""
    size = int(lexicon.size[0])
    buffers = [pa.py_buffer(lexicon.ends[: size + 1]), pa.py_buffer(lexicon.letters)]
    return pa.StringArray.from_buffers(size, *buffers)


def joined(texts: pa.StringArray) -> Bytes:
    """The bytes of all texts of an array, one behind the other, without a copy."""
    _, offsets, letters = texts.buffers()
    if letters is None:
        return np.empty(0, np.uint8)
    bounds = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    return np.frombuffer(letters, np.uint8)[bounds[0] : bounds[-1]]


@cache
def _token_points() -> npt.NDArray[np.bool_]:
    points: Any = np.zeros(0x110000, np.bool_)
    every = "".join(" " if 0xD800 <= code < 0xE000 else chr(code) for code in range(0x110000))
    for run in TOKEN.finditer(every):
        points[run.start() : run.end()] = True
    return points  # type: ignore[no-any-return]


@kernel
def _point(text: Bytes, at: int) -> tuple[int, int]:
    """The code point at `at`, and of how many bytes it is."""
    first = np.int64(text[at])
    size = 2 if first < 0xE0 else (3 if first < 0xF0 else 4)
    if at + size > len(text):
        return 0, len(text) - at
    point = first & (0xFF >> (size + 1))
    for place in range(at + 1, at + size):
        point = point << 6 | (np.int64(text[place]) & 0x3F)
    return int(point) if point < 0x110000 else 0, size


@kernel
def next_token(is_token: npt.NDArray[np.bool_], text: Bytes, at: int) -> tuple[int, int, int, bool]:
    """The next token from `at` on: its begin, end and hash, and whether a line ended before it.

    Begin and end are that of the text when there is no further one.
    """
    n = len(text)
    size = 1
    is_new_line = False
    while at < n:
        byte = text[at]
        if byte < 128:
            if is_token[byte]:
                break
            if byte == 10:
                is_new_line = True
            at += 1
        else:
            point, size = _point(text, at)
            if is_token[point]:
                break
            at += size
    begin = at
    value = np.uint64(FNV_BASIS)
    while at < n:
        byte = text[at]
        if byte < 128:
            if not is_token[byte]:
                break
            value = (value ^ np.uint64(byte)) * np.uint64(FNV_PRIME)
            at += 1
        else:
            point, size = _point(text, at)
            if not is_token[point]:
                break
            value = (value ^ np.uint64(point)) * np.uint64(FNV_PRIME)
            at += size
    value ^= value >> np.uint64(32)
    return begin, at, value, is_new_line  # type: ignore[return-value]


# The loops over tokens take the arrays and not the tuple: numba counts references to each array of
# a tuple at every call, which made counting six times slower.


@kernel
def find(
    slots: npt.NDArray[np.int32],
    hashes: npt.NDArray[np.uint64],
    ends: npt.NDArray[np.int32],
    letters: Bytes,
    text: Bytes,
    begin: int,
    end: int,
    value: int,
) -> tuple[int, int]:
    """The number of the token `text[begin:end]` with hash `value`, -1 where it is not there; and
    its slot, or the free one where it would stand."""
    mask = len(slots) - 1
    slot = np.int64(value) & mask
    while True:
        number = np.int64(slots[slot]) - 1
        if number < 0:
            return -1, int(slot)
        start = ends[number]
        if hashes[number] == value and ends[number + 1] - start == end - begin:
            place = 0
            while place < end - begin and letters[start + place] == text[begin + place]:
                place += 1
            if place == end - begin:
                return int(number), int(slot)
        slot = (slot + 1) & mask


@kernel
def count(lexicon: Lexicon, text: Bytes, at: int, counts: npt.NDArray[np.int64]) -> int:
    """Count the tokens of `text` from `at` on, adding those that are new.

    Returns where it stopped: the end of the text, or the first token that there is no room for.
    """
    is_token, slots, hashes, ends, letters, size = lexicon
    known = size[0]
    while at < len(text):
        begin, end, value, _ = next_token(is_token, text, at)
        if end > begin:
            number, slot = find(slots, hashes, ends, letters, text, begin, end, value)
            if number < 0:
                stop = np.int64(ends[known]) + end - begin
                if known == len(hashes) or stop > len(letters):
                    break
                number = known
                slots[slot] = number + 1
                hashes[number] = value
                ends[number + 1] = stop
                for place in range(end - begin):
                    letters[stop - (end - begin) + place] = text[begin + place]
                known += 1
            counts[number] += 1
        at = end
    size[0] = known
    return at
