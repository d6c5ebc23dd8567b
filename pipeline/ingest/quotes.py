"""Quotes: where a row begins in separated text whose cells may hold line ends.

Whether a line end ends a row depends on every quote before it. So a stretch of text is followed
from each of the four states that it may begin in, and stretches are joined afterwards: a large file
is cut at the same rows as if it had been read from its beginning.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.kernels import Bytes, kernel

CELL, UNQUOTED, QUOTED, CLOSING = 0, 1, 2, 3
"""At a cell's begin, in a bare cell, in quotes, behind a quote in quotes: it ends them, or it is
the first of two. What the module `csv` of Python distinguishes (RFC 4180, and bare quotes)."""


class Stretch(NamedTuple):
    """By the state that a stretch begins in: the state it ends in, and where its first row begins
    (its length when none does)."""

    ends: list[int]
    rows: list[int]


def follow(text: bytes, separator: str) -> Stretch:
    """Follow a stretch of text from each state."""
    ends, rows = _follow(np.frombuffer(text, np.uint8), ord(separator))
    return Stretch(ends.tolist(), rows.tolist())


def first_rows(stretches: list[Stretch]) -> list[int]:
    """Where the first row of each of the stretches of a file begins, from the stretch's begin."""
    state, found = CELL, []
    for number, stretch in enumerate(stretches):
        found.append(stretch.rows[state] if number else 0)
        state = stretch.ends[state]
    return found


@kernel
def _follow(text: Bytes, separator: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    ends = np.arange(4)
    rows = np.full(4, len(text))
    for begin in range(4):
        state = begin
        for at in range(len(text)):
            byte = text[at]
            if state == QUOTED:
                if byte == 34:  # a quote
                    state = CLOSING
            elif byte == 10:  # a line end
                state = CELL
                if rows[begin] == len(text):
                    rows[begin] = at + 1
            elif byte == separator:
                state = CELL
            elif byte == 34 and state != UNQUOTED:
                state = QUOTED
            elif state != UNQUOTED:
                state = UNQUOTED
        ends[begin] = state
    return ends, rows
