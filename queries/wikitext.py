"""Wikitext -> the words a reader sees: markup, references and templates taken out.

One pass over the bytes. What may turn out to be markup is written all the same and its place kept
on a stack; a closer takes it back, or leaves what is shown of it. What nothing closes stays text.
Captions of pictures and the cells of tables are text; templates, references and categories not.
"""

import numpy as np

from pipeline.kernels import Bytes, kernel
from pipeline.text import unescape
from queries import markup, stack
from queries.markup import (
    APOSTROPHE,
    BANG,
    BRACE,
    CLOSING,
    COLON,
    DASH,
    EQUALS,
    HASH,
    LESS,
    NEWLINE,
    OPENING,
    PIPE,
    PLUS,
    SEMICOLON,
    SLASH,
    SPACE,
    STAR,
    TAB,
    UNBRACE,
    UNDERSCORE,
    Places,
)
from queries.stack import DEPTH, LINE, LINK, TABLE, TARGET, TEMPLATE, Stack

_MARKS = np.zeros(256, np.bool_)
_MARKS[list(b"\n!':<[]_{|}")] = True
"""The bytes that may begin or end markup; all others are copied as they come."""
_ITALIC, _BOLD = 1, 2


def strip(wikitext: str) -> str:
    """The text of an article, with one paragraph, list item or table cell a line."""
    return unescape(shown(wikitext.encode("utf-8", "replace")).decode())


def shown(wikitext: bytes) -> bytes:
    """The same in UTF-8, with the entities of HTML as they stand. Never longer than `wikitext`."""
    out = np.empty(len(wikitext) + 1, np.uint8)
    length = _strip(np.frombuffer(wikitext, np.uint8), out)
    return out[:length].tobytes()


@kernel
def _strip(source: Bytes, out: Bytes) -> int:
    """Write what is shown of `source` into `out`, and say how many bytes that are."""
    n = len(source)
    opened = stack.empty()
    found = np.full(markup.COMMENT + 1, -1, np.int64)
    at = o = line = labels = style = gallery_end = 0
    is_fresh = True
    while at < n:
        if is_fresh:
            is_fresh = False
            at = _begin_line(source, at, opened, o, found, gallery_end)
            continue
        byte = source[at]
        if not _MARKS[byte]:
            out[o] = byte
            o += 1
            at += 1
            continue
        following = source[at + 1] if at + 1 < n else np.uint8(SPACE)
        top = opened.counts[DEPTH]
        kind = opened.kinds[top]
        if byte == NEWLINE:
            while o > line and out[o - 1] in (SPACE, EQUALS):  # behind a heading
                o -= 1
            o = stack.end_line(out, o, opened, is_blank=o == line)
            out[o] = NEWLINE
            o += 1
            at += 1
            line, labels, style, is_fresh = o, 0, 0, True
        elif byte == BRACE and following == BRACE:
            stack.begin(opened, TEMPLATE, o, TARGET)
            at += 2
        elif byte == UNBRACE and following == UNBRACE:
            at += 2
            if opened.counts[TEMPLATE]:
                o = min(o, opened.begins[stack.end(opened, TEMPLATE)])
                line = min(o, line)
        elif byte == OPENING and following == OPENING:
            at += 2
            if kind == TABLE:
                opened.marks[top] = -1
            stack.begin(opened, LINK, o, TARGET)
        elif byte == CLOSING and following == CLOSING and opened.counts[LINK]:
            at += 2
            o = stack.show(out, o, opened, stack.end(opened, LINK))
            line = min(o, line)
        elif byte == OPENING and markup.url_end(source, at + 1) > at + 1:  # [http://
            at = markup.url_end(source, at + 1)
            labels += 1
        elif byte == CLOSING and labels:
            labels -= 1
            at += 1
        elif byte == PIPE and kind == LINK:
            at += 1
            o = stack.next_part(out, o, opened)
        elif byte in (PIPE, BANG) and following == byte and kind == TABLE:
            o = stack.end_cell(out, o, opened)
            out[o] = NEWLINE
            o += 1
            at += 2
            line = opened.marks[top] = o
        elif byte == PIPE and kind == TABLE and opened.marks[top] >= 0:
            # What came was not the cell but its attributes.
            at += 1
            o = min(o, opened.marks[top])
            opened.marks[top] = -1
        elif byte == COLON and following == SLASH and at + 2 < n and source[at + 2] == SLASH:
            while o > line and markup.is_letter(out[o - 1]):
                o -= 1
            at = markup.address_end(source, at)
        elif byte == APOSTROPHE and following == APOSTROPHE:
            at, o, style = _quotes(source, at, out, o, style)
        elif byte == LESS:
            at, o, gallery_end = _tag(source, at, out, o, opened, found, gallery_end)
        elif byte == UNDERSCORE and following == UNDERSCORE and _switch_end(source, at) > at:
            at = _switch_end(source, at)
        else:
            out[o] = byte
            o += 1
            at += 1
    return o


@kernel
def _begin_line(
    source: Bytes, at: int, opened: Stack, o: int, found: Places, gallery_end: int
) -> int:
    """Take the markup that a line begins with, or the picture's name; where it goes on."""
    n = len(source)
    while at < n:
        if source[at] in (TAB, SPACE, HASH, STAR, COLON, SEMICOLON, EQUALS):
            at += 1
            continue
        end = _comment_end(source, at, found)
        if end <= at:
            break
        at = end
    if at < gallery_end and source[at] != LESS:  # a picture's link without its brackets
        while at < gallery_end and source[at] not in (NEWLINE, PIPE):
            at += 1
        if at < gallery_end and source[at] == PIPE:
            stack.begin(opened, LINK, o, LINE)
            at += 1
        return at
    if at == n:
        return at
    byte, following = source[at], source[at + 1] if at + 1 < n else np.uint8(SPACE)
    if byte == BRACE and following == PIPE:  # {|
        stack.begin(opened, TABLE, o, TARGET)
        return markup.line_end(source, at)
    if not opened.counts[TABLE] or byte not in (PIPE, BANG):
        return at
    if byte == PIPE and following in (UNBRACE, DASH):  # a picture's link ends here
        while opened.kinds[opened.counts[DEPTH]] == LINK:
            stack.end(opened, LINK)
    top = opened.counts[DEPTH]
    is_cell = opened.kinds[top] == TABLE
    if byte == PIPE and following == UNBRACE:  # |}
        is_template = at + 2 < n and source[at + 2] == UNBRACE  # {{a|}}, its last value empty
        if is_template and not is_cell:
            return at
        stack.end(opened, TABLE)
        return at + 2
    if not is_cell:
        return at
    if byte == PIPE and following == DASH:  # |-
        return markup.line_end(source, at)
    opened.marks[top] = o
    return at + 2 if byte == PIPE and following == PLUS else at + 1  # |+


@kernel
def _tag(
    source: Bytes, at: int, out: Bytes, o: int, opened: Stack, found: Places, gallery_end: int
) -> tuple[int, int, int]:
    """Take the tag, block or comment that begins at `at`; where input and output go on."""
    end = _comment_end(source, at, found)
    if end >= at:
        return end, o, gallery_end
    kind, stop, end, is_closing, is_single, place = markup.tag(source, at)
    if kind == markup.NO_TAG:
        out[o] = LESS
        return at + 1, o + 1, gallery_end
    if kind == markup.INLINE:
        return end, o, gallery_end
    if kind == markup.GALLERY and is_closing:
        o = stack.end_line(out, o, opened, False)
    out[o] = NEWLINE if kind == markup.BREAK or kind == markup.GALLERY else SPACE
    o += 1
    if kind == markup.BREAK or is_single or is_closing:
        return end, o, gallery_end
    closing = markup.block_end(source, end, source[at + 1 : stop], place, found)
    if closing < 0:  # what nothing ends is text
        return end, o, gallery_end
    if kind == markup.GALLERY:
        return end, o, closing
    if kind == markup.RAW:
        for raw in range(end, closing):
            out[o] = source[raw]
            o += 1
    return closing, o, gallery_end


@kernel
def _comment_end(source: Bytes, at: int, found: Places) -> int:
    """Behind the comment that begins at `at`, or behind its opening if nothing ends it; -1 where
    there is none."""
    if at + 4 > len(source) or source[at] != LESS or source[at + 1] != BANG:
        return -1
    if source[at + 2] != DASH or source[at + 3] != DASH:
        return -1
    end = markup.comment_end(source, at + 4, found)
    return end if end >= 0 else at + 4


@kernel
def _quotes(source: Bytes, at: int, out: Bytes, o: int, style: int) -> tuple[int, int, int]:
    """Take a run of apostrophes, of which two are italic and three bold; some are themselves."""
    end = at
    while end < len(source) and source[end] == APOSTROPHE:
        end += 1
    run = end - at
    # ''Titanic'''s: the end of italics, and an apostrophe.
    is_inside = run == 3 and style == _ITALIC and o > 0 and markup.is_letter(out[o - 1])
    if is_inside and end < len(source) and markup.is_letter(source[end]):
        own, style = 1, 0
    elif run == 2:
        own, style = 0, style ^ _ITALIC
    elif run < 5:
        own, style = run - 3, style ^ _BOLD
    else:
        own, style = run - 5, style ^ _ITALIC ^ _BOLD
    for _ in range(own):
        out[o] = APOSTROPHE
        o += 1
    return end, o, style


@kernel
def _switch_end(source: Bytes, at: int) -> int:
    """Behind a switch like __NOTOC__; `at` where there is none."""
    n = len(source)
    end = at + 2
    while end < n and 65 <= source[end] <= 90:
        end += 1
    is_switch = end > at + 2 and end + 1 < n
    return end + 2 if is_switch and source[end] == source[end + 1] == UNDERSCORE else at
