"""Words: the compiled loops that number the words of texts, and find them again.

Texts are words with spaces between and one behind each text, so that every word ends at a space;
behind the last there are 8 bytes more. Words are numbered from 1.
"""

# mypy: disable-error-code="arg-type,assignment,return-value"

import numpy as np
import numpy.typing as npt

from pipeline.kernels import GOLDEN, Bytes, inlined, kernel, load_word, low_zeros, prefetch

Ints = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

NUMBER = (1 << 31) - 1
"""The bits of an entry that are a word's number."""
SLOT = 4
"""Numbers of a slot of `heads`: a word's hash, its last 8 bytes or 0 if it has fewer, its size, and
its entry, which is its number and the info of its node from bit 32 on."""
_TOLD = 15
"""Bytes of a word, at most, that no other one agrees with in hash, last bytes and size: the bytes
that are not among the last ones can be reckoned back from the hash."""
_EVERY = 0x0101010101010101


@inlined
def _spaces(word: int) -> int:
    """The highest bit of every byte that is a space, up to the first such one."""
    every = np.uint64(_EVERY)
    others = np.uint64(word) ^ (every * np.uint64(32))
    return (others - every) & ~others & (every << np.uint64(7))


@inlined
def _word_end(text: Bytes, at: int) -> tuple[int, int]:
    """Where the word at `at` ends, and its hash, which no other of at most 7 bytes has."""
    value = np.uint64(0)
    word = np.uint64(load_word(text, at))
    spaces = _spaces(word)
    while spaces == 0:
        value = (value ^ word) * np.uint64(GOLDEN)
        value ^= value >> np.uint64(29)
        at += 8
        word = np.uint64(load_word(text, at))
        spaces = _spaces(word)
    bits = np.uint64(low_zeros(spaces)) - np.uint64(7)
    size = bits >> np.uint64(3)
    rest = word << ((np.uint64(64) - bits) & np.uint64(63)) if size else np.uint64(0)
    # The size stands in the byte that at most 7 letters leave free.
    value = (value ^ (rest | size)) * np.uint64(GOLDEN)
    # A word's slot is in the lowest bits, which of a product depend on the first letters alone.
    return at + np.int64(size), value ^ (value >> np.uint64(40))


@inlined
def _tail(text: Bytes, begin: int, end: int) -> int:
    is_long = end - begin > 7
    word = np.uint64(load_word(text, end - 8 if is_long else begin))
    return word if is_long else np.uint64(0)


@kernel
def _is_word(ends: Ints, letters: Bytes, number: int, text: Bytes, begin: int, end: int) -> bool:
    """Whether a word of more than 8 bytes is that of a number."""
    start = ends[number - 1]
    if ends[number] - start != end - begin:
        return False
    last = end - begin - 8
    for place in range(0, last, 8):
        if load_word(letters, start + place) != load_word(text, begin + place):
            return False
    return bool(load_word(letters, start + last) == load_word(text, begin + last))


@inlined
def _head(
    heads: Words, ends: Ints, letters: Bytes, text: Bytes, begin: int, end: int, value: int
) -> tuple[int, int]:
    """The entry of the word `text[begin:end]` with hash `value`, 0 where it is not there; and its
    slot, or the free one where it would stand."""
    mask = len(heads) // SLOT - 1
    slot = np.int64(value) & mask
    tail, size = _tail(text, begin, end), np.uint64(end - begin)
    while True:
        at = SLOT * slot
        entry = heads[at + 3]
        if entry == 0:
            return np.uint64(0), slot
        others = (heads[at] ^ np.uint64(value)) | (heads[at + 1] ^ tail) | (heads[at + 2] ^ size)
        if others == 0 and (
            size <= _TOLD
            or _is_word(ends, letters, np.int64(entry & np.uint64(NUMBER)), text, begin, end)
        ):
            return entry, slot
        slot = (slot + 1) & mask


@inlined
def _put(heads: Words, slot: int, value: int, tail: int, size: int, entry: int) -> None:
    heads[SLOT * slot] = value
    heads[SLOT * slot + 1] = tail
    heads[SLOT * slot + 2] = size
    heads[SLOT * slot + 3] = entry


@inlined
def cut(
    heads: Words, text: Bytes, at: int, stop: int, has_empty: bool, hashes: Words, places: Longs
) -> int:
    """Put the hashes of the words of `text[at:stop]` into `hashes`, and into `places` where each
    begins and ends; how many there are. Their entries are on the way from memory then.

    Between two spaces there is an empty word if it `has_empty` ones.
    """
    mask = len(heads) // SLOT - 1
    known = 0
    while at <= stop:
        end, value = _word_end(text, at)
        hashes[known] = value
        places[2 * known] = at
        places[2 * known + 1] = end
        prefetch(heads, SLOT * (np.int64(value) & mask))
        known += has_empty | (end > at)
        at = end + 1
    return known


@inlined
def enter(
    heads: Words, ends: Ints, letters: Bytes, text: Bytes, words: int, hashes: Words, places: Longs
) -> None:
    """Put the entry of each of so many words in the place of its hash, 0 for unknown ones."""
    for word in range(words):
        begin, end = places[2 * word], places[2 * word + 1]
        entry, _ = _head(heads, ends, letters, text, begin, end, hashes[word])
        hashes[word] = entry


@kernel
def intern(
    text: Bytes,
    bounds: Longs,
    has_empty: bool,
    heads: Words,
    hashes: Words,
    ends: Ints,
    letters: Bytes,
    numbers: Ints,
    begins: Longs,
) -> int:
    """Number the words of every text in the order of their coming; how many there are.

    Text i is `text[bounds[i]:bounds[i + 1] - 1]`; its numbers are
    `numbers[begins[i]:begins[i + 1]]`.
    """
    size = 0
    known = 0
    for row in range(len(bounds) - 1):
        at, stop = bounds[row], bounds[row + 1] - 1
        begins[row] = known
        while at <= stop:
            end, value = _word_end(text, at)
            if end > at or has_empty:
                entry, slot = _head(heads, ends, letters, text, at, end, value)
                if entry == 0:
                    hashes[size] = value
                    size += 1
                    ends[size] = ends[size - 1] + end - at
                    letters[ends[size - 1] : ends[size]] = text[at:end]
                    entry = np.uint64(size)
                    _put(heads, slot, value, _tail(text, at, end), end - at, entry)
                numbers[known] = np.int64(entry & np.uint64(NUMBER))
                known += 1
            at = end + 1
    begins[len(bounds) - 1] = known
    return size


@kernel
def head(hashes: Words, ends: Ints, letters: Bytes, infos: Ints, heads: Words) -> None:
    """Fill `heads` with distinct words and the infos of their nodes."""
    mask = len(heads) // SLOT - 1
    for place in range(len(hashes)):
        slot = np.int64(hashes[place]) & mask
        while heads[SLOT * slot + 3]:
            slot = (slot + 1) & mask
        size = ends[place + 1] - ends[place]
        tail = np.uint64(load_word(letters, ends[place + 1] - 8)) if size > 7 else np.uint64(0)
        entry = np.uint64(place + 1) | np.uint64(infos[place + 1]) << np.uint64(32)
        _put(heads, slot, hashes[place], tail, size, entry)
