"""Headers: the members of a tar as writers of WebDatasets leave them, told apart at memory speed.

What is not so (damage, a key or member twice, links, names that are no ASCII, PAX headers that
mean more than a time) is left to pipeline.members: this walk then says that the tar is odd, and
nothing else of it. Where both can read a tar they find the same.
"""

import os
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.kernels import Bytes, inlined, kernel
from pipeline.keyed import IMAGES, MAX_TEXT_BYTES
from pipeline.members import MAX_BYTES

Numbers = npt.NDArray[np.int64]

_BLOCK = 512
_WINDOW = 1 << 16
"""Bytes that are read at a time: images up to this are read through, larger ones passed over."""
_MAX_PAX = 1 << 13
_MAX_PARTS = 16
"""Of a sample."""
_NAME = 256
_MORE, _FULL, _END, _ODD = range(4)
"""What ends a stretch: the window, the room for samples, the archive, and what is not read here."""
AT_KEY, AT, IMAGE, IMAGE_BYTES, TEXT, TEXT_BYTES, JSON, JSON_BYTES, N_IMAGES = range(9)
"""Columns of a sample: where its key begins among the keys, where its first member's bytes do;
offset (-1 without one) and size of its image, txt and JSON; how many images it has."""
_COLUMNS = 9
_POSITION, _SAMPLES, _KEY_BYTES, _KEYLESS, _STATES = range(5)
"""What is known between two windows."""
_PARTS, _LENGTHS = _COLUMNS, _COLUMNS + 1
"""Of the sample in the making, behind its columns: how many members it has, and the lengths of
its key and of their extensions, which stand in the rows of `names` behind the name at hand."""
_UNMARKED = -1
"""What a size below zero is taken from: it is so marked while the extension has a second dot."""
_USTAR = np.frombuffer(b"ustar\0", dtype=np.uint8)


class Samples(NamedTuple):
    """The samples of a tar, learnable or not."""

    columns: Numbers
    """A row for each, as AT_KEY and the others say."""
    keys: Bytes
    """One behind the other."""
    keyless: int
    """Members that are of no sample."""


def _words(suffixes: tuple[str, ...]) -> Numbers:
    """Suffixes as numbers: their bytes, the first one lowest."""
    return np.array([int.from_bytes(s.encode(), "little") for s in suffixes], dtype=np.int64)


_TXT, _JSON = _words(("txt", "json")).tolist()
_IMAGE_WORDS = _words(IMAGES)


def samples_of(file: int, tar_bytes: int) -> Samples | None:
    """The samples of the open tar; None where it is odd."""
    window = np.empty(_WINDOW, dtype=np.uint8)
    state = np.zeros(_STATES, dtype=np.int64)
    held = np.full(_LENGTHS + 1 + _MAX_PARTS, -1, dtype=np.int64)
    held[[_PARTS, N_IMAGES]] = 0
    names = np.zeros((2 + _MAX_PARTS, _NAME), dtype=np.uint8)
    columns = np.empty((1024, _COLUMNS), dtype=np.int64)
    keys = np.empty(1 << 15, dtype=np.uint8)
    status = _MORE
    while status in (_MORE, _FULL):
        if status == _FULL:
            columns = np.concatenate([columns, np.empty_like(columns)])
            keys = np.concatenate([keys, np.empty_like(keys)])
        begin = int(state[_POSITION])
        size = os.preadv(file, [window.data], begin)
        status = _stretch(window, begin, size, tar_bytes, state, held, names, columns, keys)
    if status == _ODD or not _is_zero(file, int(state[_POSITION])):
        return None
    columns, keys = columns[: state[_SAMPLES]], keys[: state[_KEY_BYTES]]
    for kind in (IMAGE_BYTES, TEXT_BYTES, JSON_BYTES):
        marked = columns[:, kind] < 0
        columns[marked, kind] = _UNMARKED - columns[marked, kind]
    return Samples(columns, keys, int(state[_KEYLESS]))


def _is_zero(file: int, at: int) -> bool:
    """Whether nothing stands behind the mark of the end."""
    while chunk := os.pread(file, 1 << 20, at):
        if chunk.count(0) < len(chunk):
            return False
        at += len(chunk)
    return True


@inlined
def _octal(window: Bytes, begin: int, end: int) -> int:
    """Digits between spaces and zeros; -1 where anything else stands."""
    while begin < end and (window[begin] == 32 or window[begin] == 0):
        begin += 1
    while begin < end and (window[end - 1] == 32 or window[end - 1] == 0):
        end -= 1
    number = np.int64(0)
    for at in range(begin, end):
        digit = np.int64(window[at]) - 48
        if digit < 0 or digit > 7:
            return np.int64(-1)
        number = number * 8 + digit
    return number


@inlined
def _is_plain_pax(window: Bytes, begin: int, end: int) -> bool:
    """Whether every record is sound and says nothing of the member's name or bytes."""
    while begin < end:
        length = np.int64(0)
        at = begin
        while at < end and at < begin + 7 and 48 <= window[at] <= 57:
            length = length * 10 + np.int64(window[at]) - 48
            at += 1
        stop = begin + length
        if at == begin or at >= end or window[at] != 32 or stop > end or stop <= at + 1:
            return False
        # The names that matter are path, size and GNU's; those of times do not begin like them.
        has_equals = False
        for place in range(at + 1, stop - 1):
            has_equals |= window[place] == 61
        # p, s, G
        if not has_equals or window[stop - 1] != 10 or window[at + 1] in (112, 115, 71):
            return False
        begin = stop
    return True


@inlined
def _read_name(window: Bytes, at: int, name: Bytes) -> int:
    """Copy the name in the header at `at` to `name`; its length, -1 where it is not ASCII."""
    end = 0
    is_ustar = True
    for place in range(6):
        is_ustar &= window[at + 257 + place] == _USTAR[place]
    if is_ustar and window[at + 345] != 0:
        while end < 155 and window[at + 345 + end] != 0:
            name[end] = window[at + 345 + end]
            end += 1
        name[end] = 47
        end += 1
    place = at
    while place < at + 100 and window[place] != 0:
        name[end] = window[place]
        end += 1
        place += 1
    for place in range(end):
        if name[place] >= 128:
            return -1
    return end


@inlined
def _key_length(name: Bytes, end: int) -> int:
    """Where the first dot of the base name is; -1 without one, or without a letter before it."""
    base, dot = 0, -1
    for place in range(end):
        if name[place] == 47:
            base, dot = place + 1, -1
        elif name[place] == 46 and dot < 0:
            dot = place
    return dot if dot > base else -1


@inlined
def _is_new(held: Numbers, names: Bytes, key: int) -> bool:
    """Whether the key of names[0] is another than that of the sample in the making."""
    is_new = held[_PARTS] == 0 or held[_LENGTHS] != key
    for place in range(key):
        is_new |= names[0, place] != names[1, place]
    return bool(is_new)


@inlined
def _is_ended(state: Numbers, held: Numbers, names: Bytes, columns: Numbers, keys: Bytes) -> bool:
    """Note the sample in the making, if there is one; False where there is no room for it."""
    if held[_PARTS] == 0:
        return True
    sample, begin, key = state[_SAMPLES], state[_KEY_BYTES], held[_LENGTHS]
    if sample == len(columns) or begin + key > len(keys):
        return False
    columns[sample] = held[:_COLUMNS]
    columns[sample, AT_KEY] = begin
    keys[begin : begin + key] = names[1, :key]
    state[_SAMPLES] = sample + 1
    state[_KEY_BYTES] = begin + key
    held[:_COLUMNS] = -1
    held[N_IMAGES] = held[_PARTS] = 0
    return True


@inlined
def _is_added(held: Numbers, names: Bytes, key: int, end: int, body: int, size: int) -> bool:
    """Add the member names[0] to the sample in the making; False where it is there already."""
    part = held[_PARTS]
    if part == _MAX_PARTS:
        return False
    row, length = part + 2, end - key - 1
    word, letters, is_exact = np.int64(0), 0, True
    for place in range(length):
        letter = np.int64(names[0, key + 1 + place])
        letter += 32 * (65 <= letter <= 90)
        names[row, place] = letter
        if letter == 46:
            word, letters, is_exact = np.int64(0), 0, False
        else:
            # Suffixes of more than eight letters are no number that we know, whatever is lost.
            word |= letter << (8 * min(letters, 7))
            letters += 1
    for other in range(2, row):
        is_same = held[_LENGTHS + other - 1] == length
        for place in range(length):
            is_same &= names[other, place] == names[row, place]
        if is_same:
            return False
    held[_LENGTHS + row - 1] = length
    held[_PARTS] = part + 1
    column = TEXT if word == _TXT else JSON if word == _JSON else -1
    for image in _IMAGE_WORDS:
        if word == image:
            column = IMAGE
    if column == IMAGE:
        held[N_IMAGES] += 1
    elif size > MAX_TEXT_BYTES:
        column = -1
    if column >= 0:
        # The first one without a second dot, or else the first.
        has_exact = held[column] >= 0 and held[column + 1] >= 0
        if held[column] < 0 or (is_exact and not has_exact):
            held[column], held[column + 1] = body, size if is_exact else _UNMARKED - size
    return True


@kernel
def _stretch(
    window: Bytes,
    begin: int,
    size: int,
    tar_bytes: int,
    state: Numbers,
    held: Numbers,
    names: Bytes,
    columns: Numbers,
    keys: Bytes,
) -> int:
    """Read on from state[_POSITION] as far as the headers in the window reach."""
    while True:
        position = state[_POSITION]
        at = position - begin
        if at + _BLOCK > size:
            # At the beginning of a window the file itself is at its end, which has no mark.
            return _MORE if at > 0 else _ODD
        total = np.int64(0)
        for place in range(at, at + _BLOCK):
            total += window[place]
        if total == 0:
            return _END if _is_ended(state, held, names, columns, keys) else _FULL
        for place in range(at + 148, at + 156):
            total += 32 - np.int64(window[place])
        length, kind, body = _octal(window, at + 124, at + 136), window[at + 156], position + _BLOCK
        if length < 0 or length > MAX_BYTES or _octal(window, at + 148, at + 156) != total:
            return _ODD
        behind = body + (length + _BLOCK - 1) // _BLOCK * _BLOCK
        if kind == 120:  # x, PAX
            if length > _MAX_PAX:
                return _ODD
            if at + _BLOCK + length > size:
                return _MORE if at > 0 else _ODD
            if not _is_plain_pax(window, at + _BLOCK, at + _BLOCK + length):
                return _ODD
            state[_POSITION] = behind
            continue
        is_file = kind == 48 or kind == 0 or kind == 55
        end = _read_name(window, at, names[0])
        if not is_file or end < 0 or body + length > tar_bytes:
            return _ODD
        key = _key_length(names[0], end)
        is_folder = end > 0 and names[0, end - 1] == 47  # as tars before POSIX tell it
        if is_folder or key < 0:
            state[_KEYLESS] += not is_folder
        else:
            if _is_new(held, names, key):
                if not _is_ended(state, held, names, columns, keys):
                    return _FULL
                held[_LENGTHS] = key
                names[1, :key] = names[0, :key]
                held[AT] = body
            if not _is_added(held, names, key, end, body, length):
                return _ODD
        state[_POSITION] = behind
