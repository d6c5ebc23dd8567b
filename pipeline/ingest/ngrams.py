"""N-grams: the rows of a fasttext model that a text stands for, and their mean.

As fasttext has it: a row for each word that it knows, and for each n-gram of characters and of
words that has a bucket.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.ingest.fasttext_file import File
from pipeline.kernels import Bytes, kernel

Ints = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Number = Any
"""Of the width that a kernel's arithmetic makes it."""

_FNV_BASIS, _FNV_PRIME, _LOW = 2166136261, 16777619, 0xFFFFFFFF
"""Of FNV-1a, 32 bits."""
_NGRAM_FACTOR = 116049371
_LABEL_PREFIX = np.frombuffer(b"__label__", np.uint8)
_MAX_BITS_BYTES = 1 << 20
_NOTED_SLOTS, _NOTED_ROWS = 1 << 16, 1 << 18
"""Of the words of a batch, two slots a word, and of their rows."""


class Features(NamedTuple):
    """How a text becomes rows."""

    slots: Ints
    """A word's number and 1, at its hash or behind; 0 where there is none. A power of two long."""
    ends: Longs
    """Where each word or label ends in `letters`, behind a 0."""
    letters: Bytes
    words: int
    """Those behind them are labels."""
    kept: Ints
    """Like slots, of pairs: a bucket and 1, and its row; empty where every bucket has a row."""
    is_kept: Bytes
    """A bit for each bucket, or for several; a power of two long."""
    buckets: int
    """None has a row where it is 0."""
    min_chars: int
    max_chars: int
    word_ngrams: int


def features_of(file: File) -> Features:
    """What a model's file says of them."""
    names = [*file.words, *(f"__label__{label}".encode() for label in file.labels)]
    letters = np.frombuffer(b"".join(names), np.uint8)
    ends = np.zeros(len(names) + 1, np.int64)
    np.cumsum([len(name) for name in names], out=ends[1:])
    slots: Ints = np.zeros(_power_of_two(2 * len(names)), np.int32)
    _fill_words(letters, ends, slots)
    kept: Ints = np.empty((0, 2), np.int32)
    is_kept: Bytes = np.zeros(1, np.uint8)
    buckets = file.buckets
    if file.kept_buckets is not None:
        kept = np.zeros((_power_of_two(2 * len(file.kept_buckets)), 2), np.int32)
        is_kept = np.zeros(min(_power_of_two(buckets // 8 + 1), _MAX_BITS_BYTES), np.uint8)
        _fill_buckets(np.ascontiguousarray(file.kept_buckets), kept, is_kept)
        buckets = buckets if len(file.kept_buckets) else 0
    return Features(
        slots,
        ends,
        letters if len(letters) else np.zeros(1, np.uint8),
        len(file.words),
        kept,
        is_kept,
        buckets,
        file.min_chars,
        file.max_chars,
        file.word_ngrams,
    )


def _power_of_two(least: int) -> int:
    return 1 << max(4, (least - 1).bit_length())


@kernel
def _hashed(value: Number, byte: Number) -> Number:
    # fasttext's bytes have signs.
    point = np.uint64(byte) | np.uint64(0xFFFFFF00) if byte > 127 else np.uint64(byte)
    return ((value ^ point) * np.uint64(_FNV_PRIME)) & np.uint64(_LOW)


@kernel
def _word_at(
    slots: Ints, ends: Longs, letters: Bytes, word: Bytes, value: Number
) -> tuple[Number, Number]:
    """The number of a word with its hash, -1 where it is not there; and its slot or a free one."""
    mask = len(slots) - 1
    slot = np.int64(value) & mask
    while slots[slot] > 0:
        number = np.int64(slots[slot]) - 1
        begin = ends[number]
        if ends[number + 1] - begin == len(word):
            place = 0
            while place < len(word) and letters[begin + place] == word[place]:
                place += 1
            if place == len(word):
                return number, slot
        slot = (slot + 1) & mask
    return np.int64(-1), slot


@kernel
def _fill_words(letters: Bytes, ends: Longs, slots: Ints) -> None:
    for number in range(len(ends) - 1):
        word = letters[ends[number] : ends[number + 1]]
        value = np.uint64(_FNV_BASIS)
        for byte in word:
            value = _hashed(value, byte)
        found, slot = _word_at(slots, ends, letters, word, value)
        if found < 0:
            slots[slot] = number + 1


@kernel
def _bucket_slot(kept: Ints, bucket: Number) -> Number:
    mask = len(kept) - 1
    slot = (np.int64(bucket) * 2654435761 >> 15) & mask
    while kept[slot, 0] > 0 and kept[slot, 0] != bucket + 1:
        slot = (slot + 1) & mask
    return slot


@kernel
def _fill_buckets(pairs: Ints, kept: Ints, is_kept: Bytes) -> None:
    for number in range(len(pairs)):
        bucket = np.int64(pairs[number, 0])
        slot = _bucket_slot(kept, bucket)
        kept[slot, 0] = bucket + 1
        kept[slot, 1] = pairs[number, 1]
        is_kept[(bucket >> 3) & (len(is_kept) - 1)] |= np.uint8(1 << (bucket & 7))


@kernel
def _bucket_row(kept: Ints, is_kept: Bytes, bucket: Number) -> Number:
    """The row of a bucket behind the words' rows, -1 where it has none."""
    if len(kept) == 0:
        return bucket
    # Nine of ten have none, and this small table says so without a look at the large one.
    if (is_kept[(bucket >> 3) & (len(is_kept) - 1)] >> (bucket & 7)) & 1 == 0:
        return np.int64(-1)
    slot = _bucket_slot(kept, bucket)
    return np.int64(kept[slot, 1]) if kept[slot, 0] > 0 else np.int64(-1)


@kernel
def _is_gap(byte: Number) -> bool:
    return bool(byte == 32 or 9 <= byte <= 13 or byte == 0)


@kernel
def average_rows(
    texts: Bytes,
    bounds: Longs,
    slots: Ints,
    ends: Longs,
    letters: Bytes,
    words: Number,
    kept: Ints,
    is_kept: Bytes,
    buckets: Number,
    min_chars: Number,
    max_chars: Number,
    word_ngrams: Number,
    longest: Number,
    rows: Floats,
    hidden: Floats,
) -> None:
    """The mean of the rows of each text's words, of their character n-grams and word n-grams."""
    dim = hidden.shape[1]
    inverse = 1.0 / max(buckets, 1)
    token = np.empty(longest + 6, np.uint8)
    hashes = np.empty(longest + 2, np.uint32)
    # Words come back: what their rows are is noted, as far as there is room.
    seen = np.zeros(_NOTED_SLOTS, np.int32)
    seen_at = np.empty((_NOTED_SLOTS // 2, 2), np.int64)
    noted = np.empty(_NOTED_ROWS, np.int64)
    noted_ends = np.zeros(_NOTED_SLOTS // 2 + 1, np.int64)
    known = 0

    for text in range(len(hidden)):
        total = hidden[text]
        count = 0
        tokens = 0
        at = np.int64(bounds[text])
        stop = np.int64(bounds[text + 1])
        is_end = False
        while not is_end:
            while at < stop and _is_gap(texts[at]):
                at += 1
            size = 0
            value = np.uint64(_FNV_BASIS)
            begin_at = at
            is_end = at == stop
            if is_end:  # a line ends in a word of its own
                for byte in (60, 47, 115, 62):
                    token[1 + size] = byte
                    value = _hashed(value, byte)
                    size += 1
            while at < stop and not _is_gap(texts[at]):
                token[1 + size] = texts[at]
                value = _hashed(value, texts[at])
                size += 1
                at += 1

            is_end |= _is_end_word(token, size)

            slot = np.int64(value) & (_NOTED_SLOTS - 1)
            found: Number = -1
            while seen[slot] > 0 and found < 0:
                number = np.int64(seen[slot]) - 1
                if seen_at[number, 1] == size:
                    place = 0
                    while place < size and texts[seen_at[number, 0] + place] == token[1 + place]:
                        place += 1
                    if place == size:
                        found = number
                slot = (slot + 1) & (_NOTED_SLOTS - 1)
            if found >= 0 and not is_end:
                hashes[tokens] = value
                tokens += 1
                for place in range(noted_ends[found], noted_ends[found + 1]):
                    row = noted[place]
                    for d in range(dim):
                        total[d] += rows[row, d]
                count += noted_ends[found + 1] - noted_ends[found]
                continue

            number, _ = _word_at(slots, ends, letters, token[1 : size + 1], value)
            if number >= words or (number < 0 and _is_label(token, size)):
                continue
            hashes[tokens] = value
            tokens += 1
            noting = noted_ends[known]
            if number >= 0:
                if noting < len(noted):
                    noted[noting] = number
                noting += 1
                for d in range(dim):
                    total[d] += rows[number, d]
                count += 1
            has_parts = not is_end and buckets > 0
            token[0] = 60  # <
            token[size + 1] = 62  # >
            for begin in range(size + 2 if has_parts else 0):
                if token[begin] & 0xC0 == 0x80:
                    continue
                value = np.uint64(_FNV_BASIS)
                place = begin
                chars = 1
                while place < size + 2 and chars <= max_chars:
                    value = _hashed(value, token[place])
                    place += 1
                    while place < size + 2 and token[place] & 0xC0 == 0x80:
                        value = _hashed(value, token[place])
                        place += 1
                    is_edge = chars == 1 and (begin == 0 or place == size + 2)
                    if chars >= min_chars and not is_edge:
                        # A division by way of a product: the whole loop waits for it.
                        bucket = np.int64(value)
                        bucket -= np.int64(np.float64(bucket) * inverse) * buckets
                        if bucket < 0:
                            bucket += buckets
                        elif bucket >= buckets:
                            bucket -= buckets
                        row = _bucket_row(kept, is_kept, bucket)
                        if row >= 0:
                            row += words
                            if noting < len(noted):
                                noted[noting] = row
                            noting += 1
                            count += 1
                            for d in range(dim):
                                total[d] += rows[row, d]
                    chars += 1
            if not is_end and noting <= len(noted) and known < len(seen_at) - 1:
                slot = np.int64(hashes[tokens - 1]) & (_NOTED_SLOTS - 1)
                while seen[slot] > 0:
                    slot = (slot + 1) & (_NOTED_SLOTS - 1)
                seen[slot] = known + 1
                seen_at[known, 0] = begin_at
                seen_at[known, 1] = size
                known += 1
                noted_ends[known] = noting
        if buckets > 0:
            for first in range(tokens):
                joined = np.uint64(np.int64(np.int32(hashes[first])))
                for last in range(first + 1, min(tokens, first + word_ngrams)):
                    joined = joined * np.uint64(_NGRAM_FACTOR)
                    joined += np.uint64(np.int64(np.int32(hashes[last])))
                    row = _bucket_row(kept, is_kept, np.int64(joined % np.uint64(buckets)))
                    if row >= 0:
                        count += 1
                        for d in range(dim):
                            total[d] += rows[words + row, d]
        if count:
            share = np.float32(1.0 / count)
            for d in range(dim):
                total[d] *= share


@kernel
def _is_label(token: Bytes, size: int) -> bool:
    width = len(_LABEL_PREFIX)
    return size >= width and bool(np.all(token[1 : 1 + width] == _LABEL_PREFIX))


@kernel
def _is_end_word(token: Bytes, size: int) -> bool:
    return size == 4 and token[1] == 60 and token[2] == 47 and token[3] == 115 and token[4] == 62
