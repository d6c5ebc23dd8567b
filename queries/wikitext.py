"""Wikitext -> the words a reader sees: markup, references and templates taken out.

One pass over the bytes. What may turn out to be markup is written all the same and its place kept
on a stack; a closer takes it back, or leaves what is shown of it. What nothing closes stays text.
Captions of pictures and the cells of tables are text; templates, references and categories not.
"""

import html
from typing import NamedTuple

import numpy as np

from pipeline.kernels import kernel
from queries import markup
from queries.markup import Bytes, Places

_TEMPLATE, _TABLE, _LINK, _DEPTH = 0, 1, 2, 3
_TARGET, _LABEL, _CAPTION = 0, 1, 2
_DEEPEST = 1000
_DEEPEST_LINK = 16
"""Deeper nesting is text: what a link shows is moved once for every link around it."""
_MARKS = np.zeros(256, np.bool_)
_MARKS[list(b"\n!':<[]_{|}")] = True
"""The bytes that may begin or end markup; all others are copied as they come."""


class _Stack(NamedTuple):
    kinds: Places
    begins: Places
    """Where in the output it was opened."""
    marks: Places
    """Where in the output a link's present part or a cell began; -1 when it does not matter."""
    parts: Places
    """Which part of a link is being read."""
    counts: Places
    """How many of each kind are open, and the depth."""


def strip(wikitext: str) -> str:
    """The text of an article, with one paragraph, list item or table cell a line."""
    return html.unescape(shown(wikitext.encode("utf-8", "replace")).decode("utf-8", "replace"))


def shown(wikitext: bytes) -> bytes:
    """The same in UTF-8, with the entities of HTML as they stand."""
    out = np.empty(len(wikitext) + 1, np.uint8)
    length = _strip(np.frombuffer(wikitext, np.uint8), out)
    return out[:length].tobytes()


@kernel
def _strip(source: Bytes, out: Bytes) -> int:
    """Write what is shown of `source` into `out`, and say how many bytes that are."""
    n = len(source)
    new = np.empty((4, _DEEPEST), np.int64)
    stack = _Stack(new[0], new[1], new[2], new[3], np.zeros(4, np.int64))
    found = np.full(markup.COMMENT + 1, -1, np.int64)
    at = o = line = labels = 0
    fresh, gallery = True, False
    while at < n:
        if fresh:
            while at < n and source[at] in (9, 32, 35, 42, 58, 59, 61):  # space and # * : ; =
                at += 1
            fresh = False
            at = _begin_line(source, at, stack, o, gallery)
            continue
        byte = source[at]
        if not _MARKS[byte]:
            out[o] = byte
            o += 1
            at += 1
            continue
        following = source[at + 1] if at + 1 < n else np.uint8(0)
        top = stack.kinds[stack.counts[_DEPTH] - 1] if stack.counts[_DEPTH] else -1
        if byte == 10:
            while o > line and out[o - 1] in (32, 61):  # the = behind a heading
                o -= 1
            if gallery and top == _LINK and stack.parts[stack.counts[_DEPTH] - 1] == _CAPTION:
                o = _show(out, o, stack, _close(stack, _LINK))
            _leave_line(stack, is_blank=o == line)
            o = _end_cell(out, o, stack)
            out[o] = 10
            o += 1
            at += 1
            line, labels, fresh = o, 0, True
        elif byte == 123 and following == 123:  # {{
            _open(stack, _TEMPLATE, o)
            at += 2
        elif byte == 125 and following == 125:  # }}
            at += 2
            if stack.counts[_TEMPLATE]:
                o = min(o, stack.begins[_close(stack, _TEMPLATE)])
                line = min(o, line)
        elif byte == 91 and following == 91:  # [[
            at += 2
            if stack.counts[_LINK] < _DEEPEST_LINK:
                if top == _TABLE:
                    stack.marks[stack.counts[_DEPTH] - 1] = -1
                _open(stack, _LINK, o)
        elif byte == 93 and following == 93 and stack.counts[_LINK]:  # ]]
            at += 2
            o = _show(out, o, stack, _close(stack, _LINK))
            line = min(o, line)
        elif byte == 91 and markup.url_end(source, at + 1) > at + 1:  # [http://
            at = markup.url_end(source, at + 1)
            labels += 1
        elif byte == 93 and labels:
            labels -= 1
            at += 1
        elif byte == 124 and top == _LINK:
            at += 1
            o = _next_part(out, o, stack)
        elif (byte == 124 or byte == 33) and following == byte and top == _TABLE:  # || !!
            o = _end_cell(out, o, stack)
            out[o] = 10
            o += 1
            at += 2
            line = o
            stack.marks[stack.counts[_DEPTH] - 1] = o
        elif byte == 124 and top == _TABLE and stack.marks[stack.counts[_DEPTH] - 1] >= 0:
            # What came was not the cell but its attributes.
            at += 1
            o = min(o, stack.marks[stack.counts[_DEPTH] - 1])
            stack.marks[stack.counts[_DEPTH] - 1] = -1
        elif byte == 58 and following == 47 and at + 2 < n and source[at + 2] == 47:  # ://
            while o > line and 97 <= (out[o - 1] | 32) <= 122:
                o -= 1
            at = markup.address_end(source, at)
        elif byte == 39 and following == 39:  # ''
            while at < n and source[at] == 39:
                at += 1
        elif byte == 60:
            at, o, gallery = _tag(source, at, out, o, found, gallery)
        elif byte == 95 and following == 95 and _switch_end(source, at) > at:  # __TOC__
            at = _switch_end(source, at)
        else:
            out[o] = byte
            o += 1
            at += 1
    return o


@kernel
def _open(stack: _Stack, kind: int, o: int) -> None:
    depth = stack.counts[_DEPTH]
    if depth < _DEEPEST:
        stack.kinds[depth], stack.begins[depth] = kind, o
        stack.marks[depth], stack.parts[depth] = -1, _TARGET
        stack.counts[_DEPTH] += 1
        stack.counts[kind] += 1


@kernel
def _close(stack: _Stack, kind: int) -> int:
    """The place in the stack of the last `kind`, which there must be. It also closes what was
    left open inside."""
    while True:
        stack.counts[_DEPTH] -= 1
        top = stack.counts[_DEPTH]
        stack.counts[stack.kinds[top]] -= 1
        if stack.kinds[top] == kind:
            return int(top)


@kernel
def _begin_line(source: Bytes, at: int, stack: _Stack, o: int, gallery: bool) -> int:
    """Take the table markup or the picture's name that a line begins with; where it goes on."""
    n = len(source)
    if at == n:
        return at
    if gallery and source[at] != 60:  # a line is a picture's link without its brackets
        end = at
        while end < n and source[end] not in (10, 124):
            end += 1
        if end < n and source[end] == 124:
            _open(stack, _LINK, o)
            top = stack.counts[_DEPTH] - 1
            stack.parts[top], stack.marks[top] = _CAPTION, o
            end += 1
        return end
    byte, following = source[at], source[at + 1] if at + 1 < n else np.uint8(0)
    if byte == 123 and following == 124:  # {|
        _open(stack, _TABLE, o)
        return markup.line_end(source, at)
    if not stack.counts[_TABLE] or (byte != 124 and byte != 33):
        return at
    if byte == 124 and (following == 125 or following == 45):  # a picture's link ends here
        while stack.kinds[stack.counts[_DEPTH] - 1] == _LINK:
            _close(stack, _LINK)
    top = stack.counts[_DEPTH] - 1
    is_cell = stack.kinds[top] == _TABLE
    if byte == 124 and following == 125:  # |}
        is_template = at + 2 < n and source[at + 2] == 125  # {{a|}}, its last value empty
        if is_template and not is_cell:
            return at
        _close(stack, _TABLE)
        return at + 2
    if not is_cell:
        return at
    if byte == 124 and following == 45:  # |-
        return markup.line_end(source, at)
    stack.marks[top] = o
    return at + 2 if byte == 124 and following == 43 else at + 1  # |+


@kernel
def _leave_line(stack: _Stack, is_blank: bool) -> None:
    """A link's target ends with its line, a label or caption with its paragraph."""
    while stack.counts[_LINK]:
        top = stack.counts[_DEPTH] - 1
        if stack.kinds[top] != _LINK or (stack.parts[top] != _TARGET and not is_blank):
            break
        _close(stack, _LINK)


@kernel
def _end_cell(out: Bytes, o: int, stack: _Stack) -> int:
    """A cell's line ends. Where it is attributes alone, a template held the rest: {{yes}}."""
    top = stack.counts[_DEPTH] - 1
    if top < 0 or stack.kinds[top] != _TABLE:
        return o
    mark, stack.marks[top] = stack.marks[top], -1
    return int(mark) if 0 <= mark < o and markup.is_attributes(out, mark, o) else o


@kernel
def _move(out: Bytes, begin: int, end: int, to: int) -> int:
    """Move a piece of `out` to the left; where it ends then."""
    for at in range(begin, end):
        out[to] = out[at]
        to += 1
    return to


@kernel
def _next_part(out: Bytes, o: int, stack: _Stack) -> int:
    """A link's part ends at `o`; of a picture's, keep only what may be its caption."""
    top = stack.counts[_DEPTH] - 1
    begin = int(min(o, stack.begins[top]))
    if stack.parts[top] == _CAPTION:
        o = _caption(out, o, begin, stack.marks[top])
        stack.marks[top] = o
        return o
    is_target = stack.parts[top] == _TARGET
    if is_target and markup.namespace(out, begin, o) == markup.MEDIA:
        stack.parts[top], stack.marks[top] = _CAPTION, begin
        return begin
    out[o] = 124
    if is_target:
        stack.parts[top], stack.marks[top] = _LABEL, o + 1
    return o + 1


@kernel
def _caption(out: Bytes, o: int, begin: int, mark: int) -> int:
    """The last part that is no option takes the place of those before it."""
    mark = min(o, mark)
    if markup.is_option(out, mark, o):
        return mark
    return _move(out, mark, o, begin)


@kernel
def _show(out: Bytes, o: int, stack: _Stack, top: int) -> int:
    """Leave what is shown of the link that ends at `o`; where the output goes on."""
    begin, mark, part = int(min(o, stack.begins[top])), stack.marks[top], stack.parts[top]
    if part == _CAPTION:
        o = _caption(out, o, begin, mark)
        if o > begin:  # a paragraph of its own; its markup left room for the two line ends
            for at in range(o, begin, -1):
                out[at] = out[at - 1]
            out[begin] = out[o + 1] = 10
            o += 2
        return o
    target_end = o if part == _TARGET else min(o, mark - 1)
    if markup.namespace(out, begin, target_end) != markup.ARTICLE:
        return begin
    return o if part == _TARGET else _move(out, min(o, mark), o, begin)


@kernel
def _tag(
    source: Bytes, at: int, out: Bytes, o: int, found: Places, gallery: bool
) -> tuple[int, int, bool]:
    """Take the tag, block or comment that begins at `at`; where input and output go on."""
    n = len(source)
    if at + 3 < n and source[at + 1] == 33 and source[at + 2] == 45 and source[at + 3] == 45:
        end = markup.comment_end(source, at + 4, found)
        return (end if end >= 0 else at + 4), o, gallery
    kind, stop, end, is_closing, is_single, place = markup.tag(source, at)
    if kind == markup.NO_TAG:
        out[o] = 60
        return at + 1, o + 1, gallery
    if kind == markup.INLINE:
        return end, o, gallery
    out[o] = 10 if kind == markup.BREAK or kind == markup.GALLERY else 32
    o += 1
    if kind == markup.BREAK or is_single:
        return end, o, gallery
    if is_closing:
        return end, o, gallery and kind != markup.GALLERY
    closing = markup.block_end(source, end, source[at + 1 : stop], place, found)
    if closing < 0:  # what nothing ends is text
        return end, o, gallery
    if kind == markup.GALLERY:
        return end, o, True
    if kind == markup.RAW:
        o = o + closing - end
        out[o - (closing - end) : o] = source[end:closing]
    return closing, o, gallery


@kernel
def _switch_end(source: Bytes, at: int) -> int:
    """Behind a switch like __NOTOC__; `at` where there is none."""
    n = len(source)
    end = at + 2
    while end < n and 65 <= source[end] <= 90:
        end += 1
    is_switch = end > at + 2 and end + 1 < n and source[end] == 95 and source[end + 1] == 95
    return end + 2 if is_switch else at
