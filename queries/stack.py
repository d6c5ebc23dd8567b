"""Stack: what is open in a wikitext, and what is shown of it when it closes.

What is shown is written as it comes; a link or a cell that closes takes back what was its markup.
"""

from typing import NamedTuple

import numpy as np

from pipeline.kernels import Bytes, kernel
from queries import markup
from queries.markup import NEWLINE, PIPE, Places

TEMPLATE, TABLE, LINK, DEPTH = 0, 1, 2, 3
TARGET, LABEL, CAPTION, LINE = 0, 1, 2, 3
"""The parts of a link: the last two of a picture's, in brackets and as a line of a gallery."""
_DEEPEST = 1000
_DEEPEST_LINK = 16
"""Deeper nesting is text: what a link shows is moved once for every link around it."""


class Stack(NamedTuple):
    """Arrays of what is open, the last at `counts[DEPTH]`; the first place is never used."""

    kinds: Places
    begins: Places
    """Where in the output it was opened."""
    marks: Places
    """Where in the output a link's present part or a cell began; -1 when it does not matter."""
    parts: Places
    """Which part of a link is being read."""
    counts: Places
    """How many of each kind are open, and of all."""


@kernel
def empty() -> Stack:
    """With nothing open."""
    new = np.full((4, _DEEPEST), -1, np.int64)
    return Stack(new[0], new[1], new[2], new[3], np.zeros(4, np.int64))


@kernel
def begin(stack: Stack, kind: int, o: int, part: int) -> None:
    """Open something, unless the nesting is too deep."""
    top = stack.counts[DEPTH] + 1
    if top == _DEEPEST or (kind == LINK and stack.counts[LINK] == _DEEPEST_LINK):
        return
    stack.kinds[top], stack.begins[top] = kind, o
    stack.marks[top], stack.parts[top] = o if part == LINE else -1, part
    stack.counts[DEPTH] = top
    stack.counts[kind] += 1


@kernel
def end(stack: Stack, kind: int) -> int:
    """Close the last `kind`, which there must be, with all that was left open inside; its place."""
    while True:
        top = stack.counts[DEPTH]
        stack.counts[DEPTH] -= 1
        stack.counts[stack.kinds[top]] -= 1
        if stack.kinds[top] == kind:
            return int(top)


@kernel
def end_line(out: Bytes, o: int, stack: Stack, is_blank: bool) -> int:
    """A line ends, and with it a gallery's picture, a link's target, a cell's attributes; a link's
    label or caption ends with its paragraph."""
    while stack.kinds[stack.counts[DEPTH]] == LINK:
        part = stack.parts[stack.counts[DEPTH]]
        if part == LINE:
            o = show(out, o, stack, end(stack, LINK))
        elif part == TARGET or is_blank:
            end(stack, LINK)
        else:
            break
    return end_cell(out, o, stack)


@kernel
def end_cell(out: Bytes, o: int, stack: Stack) -> int:
    """A cell's line ends. Where it is attributes alone, a template held the rest: {{yes}}."""
    top = stack.counts[DEPTH]
    if stack.kinds[top] != TABLE:
        return o
    mark, stack.marks[top] = stack.marks[top], -1
    return int(mark) if 0 <= mark < o and markup.is_attributes(out, mark, o) else o


@kernel
def next_part(out: Bytes, o: int, stack: Stack) -> int:
    """A link's part ends at `o`; of a picture's, keep only what may be its caption."""
    top = stack.counts[DEPTH]
    first = int(min(o, stack.begins[top]))
    if stack.parts[top] >= CAPTION:
        o = _caption(out, o, first, stack.marks[top])
        stack.marks[top] = o
        return o
    is_target = stack.parts[top] == TARGET
    if is_target and markup.namespace(out, first, o) == markup.MEDIA:
        stack.parts[top], stack.marks[top] = CAPTION, first
        return first
    out[o] = PIPE
    if is_target:
        stack.parts[top], stack.marks[top] = LABEL, o + 1
    return o + 1


@kernel
def show(out: Bytes, o: int, stack: Stack, top: int) -> int:
    """Leave what is shown of the link that ends at `o`; where the output goes on."""
    first, mark, part = int(min(o, stack.begins[top])), stack.marks[top], stack.parts[top]
    if part == LINE:
        return _caption(out, o, first, mark)
    if part == CAPTION:
        o = _caption(out, o, first, mark)
        if o > first:  # a paragraph of its own; "[[File:" left room for the two line ends
            for at in range(o, first, -1):
                out[at] = out[at - 1]
            out[first] = out[o + 1] = NEWLINE
            o += 2
        return o
    space = markup.namespace(out, first, o if part == TARGET else min(o, mark - 1))
    is_hidden = space in (markup.MEDIA, markup.LANGUAGE) and part == TARGET
    if is_hidden or space == markup.CATEGORY:
        return first
    return o if part == TARGET else _move(out, min(o, mark), o, first)


@kernel
def _caption(out: Bytes, o: int, first: int, mark: int) -> int:
    """The last part that is no option takes the place of those before it."""
    mark = min(o, mark)
    return int(mark) if markup.is_option(out, mark, o) else _move(out, mark, o, first)


@kernel
def _move(out: Bytes, begin: int, end: int, to: int) -> int:
    """Move a piece of `out` to the left; where it ends then."""
    for at in range(begin, end):
        out[to] = out[at]
        to += 1
    return to
