"""Folding: captions as words with spaces between, one behind each: compiled for nearly all of them.

A code point is plain when its fold does not depend on its neighbours. A caption of plain ones is
folded by a table; the others are told, and left to Python.
"""

import sys
import unicodedata
from functools import cache

import numpy as np
import numpy.typing as npt

from pipeline.kernels import Bytes, kernel
from pipeline.match.words import Longs
from pipeline.text import TOKEN, fold

Codes = npt.NDArray[np.uint32]
Flags = npt.NDArray[np.bool_]

_POINTS = 0x20000
"""Of the table: every script in use; ideographs that are rarer still are left to Python."""
PADDING = 8
"""Bytes behind the last caption, all spaces."""


@cache
def folds() -> Codes:
    """The fold of each plain code point, as UTF-8, first byte lowest; 0 for those that are not.

    What is no token's is a space. Plain ones also fold to no more bytes than they have, so that a
    caption never grows.
    """
    table = np.zeros(_POINTS, np.uint32)
    closing = _closing()
    for code in range(_POINTS):
        point = chr(code)
        if 0xD800 <= code < 0xE000 or not _is_plain(point, closing):
            continue
        folded = "".join(c if TOKEN.match(c) else " " for c in fold(point)).encode()
        if len(folded) <= len(point.encode()):
            table[code] = int.from_bytes(folded, "little")
    return table


def _closing() -> frozenset[str]:
    """Code points that join the one before: marks that are sorted, and what composes with it."""
    found = {chr(code) for code in range(0x1161, 0x1176)}  # vowels and
    found |= {chr(code) for code in range(0x11A8, 0x11C3)}  # consonants of Hangul
    for code in range(sys.maxunicode + 1):
        point = chr(code)
        if unicodedata.combining(point):
            found.add(point)
        parts = unicodedata.decomposition(point).split()
        if len(parts) == 2 and parts[0][0] != "<":
            found.add(chr(int(parts[1], 16)))
    return frozenset(found)


def _is_plain(point: str, closing: frozenset[str]) -> bool:
    if not unicodedata.decomposition(point) and point.lower() == point:  # nearly all
        return point not in closing
    # Nothing composes or is sorted across a code point whose decomposition begins with none of
    # `closing` (UAX 15, section 9.1). That must hold for each of fold's three steps.
    step = point
    for _ in range(3):
        # The lower case of a sigma depends on the letters around it.
        if unicodedata.normalize("NFKD", step)[0] in closing or "\u03a3" in step:
            return False
        step = unicodedata.normalize("NFKC", step)
        if "\u03a3" in step:
            return False
        step = step.lower()
    return True


@kernel
def fold_plain(table: Codes, text: Bytes, bounds: Longs, words: Bytes, is_foreign: Flags) -> int:
    """Put the words of each caption into `words`, and spaces behind them. How many captions are
    foreign: of those it is nonsense.

    Caption i is `text[bounds[i]:bounds[i + 1]]`, valid UTF-8. Its words begin at `bounds[i] + i`,
    so that there is a space behind each; and PADDING behind the last.
    """
    foreign = 0
    for row in range(len(bounds) - 1):
        begin, stop = bounds[row], bounds[row + 1]
        bits = np.uint8(0)
        # Slices, from whose beginning the compiler can do many bytes at once.
        given, folded = text[begin:stop], words[begin + row : stop + row]
        for at in range(len(given)):
            byte = given[at]
            bits |= byte
            lower = byte | np.uint8(32)
            is_letter = np.uint8(lower - np.uint8(97)) < 26
            is_digit = np.uint8(byte - np.uint8(48)) < 10
            folded[at] = lower if is_letter else (byte if is_digit else np.uint8(32))
        words[stop + row] = 32
        if bits < 128:
            continue
        at, end = begin, begin + row
        while at < stop:
            point = np.int64(text[at])
            size = 1
            if point >= 128:
                size = 2 if point < 0xE0 else (3 if point < 0xF0 else 4)
                point &= 0xFF >> (size + 1)
                for place in range(at + 1, at + size):
                    point = point << 6 | (np.int64(text[place]) & 0x3F)
            value = np.int64(table[point]) if point < len(table) else 0
            if value == 0:
                is_foreign[row] = True
                foreign += 1
                break
            at += size
            while value:
                words[end] = value & 0xFF
                value >>= 8
                end += 1
        while end < stop + row:
            words[end] = 32
            end += 1
    for place in range(len(words) - PADDING, len(words)):
        words[place] = 32
    return foreign


@kernel
def space(kinds: Bytes, text: Bytes, bounds: Longs, words: Bytes, begins: Longs) -> None:
    """Put each caption into `words`, a space behind it, and PADDING behind the last; and into
    `begins` where each begins, and the last ends.

    A byte of kind 1 gets spaces around it, one of kind 2 is replaced by a space.
    """
    end = 0
    for row in range(len(bounds) - 1):
        begins[row] = end
        for at in range(bounds[row], bounds[row + 1]):
            kind = kinds[text[at]]
            if kind == 0:
                words[end] = text[at]
                end += 1
                continue
            words[end] = 32
            end += 1
            if kind == 1:
                words[end] = text[at]
                words[end + 1] = 32
                end += 2
        words[end] = 32
        end += 1
    begins[len(bounds) - 1] = end
    words[end : end + PADDING] = 32
