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

from pipeline.kernels import GOLDEN, Bytes, kernel, load_word, low_zeros
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


def bounded(texts: pa.StringArray) -> tuple[Bytes, npt.NDArray[np.int64]]:
    """The bytes of all texts, and where each one begins in them, and the last one ends."""
    offsets = np.frombuffer(texts.buffers()[1] or b"\0" * 4, np.int32)
    bounds = offsets[texts.offset :][: len(texts) + 1].astype(np.int64)
    return joined(texts), bounds - bounds[0]


@cache
def _token_points() -> npt.NDArray[np.bool_]:
    points: Any = np.zeros(0x110000, np.bool_)
    every = "".join(" " if 0xD800 <= code < 0xE000 else chr(code) for code in range(0x110000))
    for run in TOKEN.finditer(every):
        points[run.start() : run.end()] = True
    return points  # type: ignore[no-any-return]


@kernel
def _point(text: Bytes, at: int, stop: int) -> tuple[int, int]:
    """The code point at `at`, and of how many bytes it is."""
    first = np.int64(text[at])
    if first < 0x80:
        return int(first), 1
    size = 2 if first < 0xE0 else (3 if first < 0xF0 else 4)
    if at + size > stop:
        return 0, stop - at
    point = first & (0xFF >> (size + 1))
    for place in range(at + 1, at + size):
        point = point << 6 | (np.int64(text[place]) & 0x3F)
    return int(point) if point < 0x110000 else 0, size


_EVERY = 0x0101010101010101


@kernel
def _other_bytes(word: int) -> int:
    """The highest bit of every byte of 8 that is no ASCII letter or digit; all bytes are ASCII."""
    every = np.uint64(_EVERY)
    value = np.uint64(word)
    lower = value | every * np.uint64(0x20)
    # A sum reaches a byte's highest bit from "0" on, and beyond "9"; no sum reaches the next byte.
    digits = (value + every * np.uint64(0x50)) & ~(value + every * np.uint64(0x46))
    letters = (lower + every * np.uint64(0x1F)) & ~(lower + every * np.uint64(0x05))
    return ~(digits | letters) & (every << np.uint64(7))


@kernel
def token_end(is_token: npt.NDArray[np.bool_], text: Bytes, at: int, stop: int) -> int:
    """Where the run of a token's characters ends that begins at `at`; at most `stop`."""
    while at < stop:
        if at + 8 <= len(text):
            word = load_word(text, at)
            if not word & (np.uint64(_EVERY) << np.uint64(7)):
                others = np.uint64(_other_bytes(word))
                if others:
                    return min(stop, at + np.int64(low_zeros(others) >> np.uint64(3)))
                at += 8
                continue
        point, size = _point(text, at, stop)
        if not is_token[point]:
            return at
        at += size
    return stop


@kernel
def hash_of(text: Bytes, begin: int, end: int) -> int:
    """A hash of `text[begin:end]`; of texts of one length up to 8 bytes no two are equal."""
    value = np.uint64(end - begin) * np.uint64(GOLDEN)
    while begin + 8 < end:
        value = (value ^ load_word(text, begin)) * np.uint64(GOLDEN)
        value ^= value >> np.uint64(29)
        begin += 8
    word = np.uint64(0)
    if begin + 8 <= len(text) and end > begin:
        word = load_word(text, begin) << np.uint64(8 * (8 - (end - begin)))
    else:
        for place in range(end - 1, begin - 1, -1):
            word = word << np.uint64(8) | np.uint64(text[place])
        word <<= np.uint64(8 * (8 - (end - begin)) & 63)
    value = (value ^ word) * np.uint64(GOLDEN)
    # The lowest bits, which are a word's slot, of a product depend on the first letters alone.
    return value ^ (value >> np.uint64(40))


@kernel
def next_token(
    is_token: npt.NDArray[np.bool_], text: Bytes, at: int, stop: int
) -> tuple[int, int, int, bool]:
    """The next token of `text[:stop]` from `at` on: its begin, end and hash, and whether a line
    ended before it.

    Begin and end are `stop` when there is no further one.
    """
    is_new_line = False
    while at < stop:
        byte = text[at]
        if byte < 128:
            if is_token[byte]:
                break
            is_new_line |= byte == 10
            at += 1
        else:
            point, size = _point(text, at, stop)
            if is_token[point]:
                break
            at += size
    end = token_end(is_token, text, at, stop)
    return at, end, hash_of(text, at, end), is_new_line


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
            place = 0 if end - begin > 8 else end - begin
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
        begin, end, value, _ = next_token(is_token, text, at, len(text))
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
