"""Markup: the names that wikitext gives a meaning to, and where a piece of it ends."""

import numpy as np
import numpy.typing as npt

from pipeline.kernels import FNV_BASIS, FNV_PRIME, Bytes, kernel

Places = npt.NDArray[np.int64]

TAB, NEWLINE, SPACE, BANG, QUOTE, HASH, APOSTROPHE, STAR, PLUS, DASH, SLASH = b"\t\n !\"#'*+-/"
COLON, SEMICOLON, LESS, EQUALS, GREATER, OPENING, CLOSING, UNDERSCORE = b":;<=>[]_"
BRACE, PIPE, UNBRACE = b"{|}"
_M, _P, _X = b"mpx"

NO_TAG, INLINE, BREAK, HIDDEN, RAW, GALLERY = -1, 0, 1, 2, 3, 4
_TAGS = {
    BREAK: "blockquote br caption center dd div dl dt h1 h2 h3 h4 h5 h6 hr li ol p poem table td "
    "th tr ul",
    HIDDEN: "categorytree ce chem graph hiero imagemap inputbox mapframe maplink math ref score "
    "section source syntaxhighlight templatedata timeline",
    RAW: "nowiki pre",
    GALLERY: "gallery",
}
ARTICLE, MEDIA, CATEGORY, LANGUAGE = 0, 1, 2, 3
_NAMESPACES = {MEDIA: "file image media", CATEGORY: "category", LANGUAGE: "simple"}
_OPTIONS = (
    "thumb thumbnail frame framed frameless border right left center centre none baseline middle "
    "sub super top text-top bottom text-bottom upright alt link page lang class start end thumbtime"
)
_ATTRIBUTES = (
    "abbr align bgcolor border class color colspan data-sort-type data-sort-value dir headers "
    "height id lang nowrap rowspan scope style title valign width"
)


def _hash(word: str) -> int:
    value = FNV_BASIS
    for byte in word.encode():
        value = (value ^ byte) * FNV_PRIME % 2**64
    return value


def _table(kinds: dict[int, str]) -> tuple[npt.NDArray[np.uint64], Places]:
    pairs = [(_hash(word), kind) for kind, words in kinds.items() for word in words.split()]
    hashes, values = zip(*pairs, strict=True)
    return np.array(hashes, np.uint64), np.array(values, np.int64)


_TAG_HASHES, _TAG_KINDS = _table(_TAGS)
_NAMESPACE_HASHES, _NAMESPACE_KINDS = _table(_NAMESPACES)
_OPTION_HASHES, _ = _table({0: _OPTIONS})
_ATTRIBUTE_HASHES, _ = _table({0: _ATTRIBUTES})
_ENDS_ADDRESS = np.zeros(256, np.bool_)
_ENDS_ADDRESS[list(b'"<>[]{|}')] = True
COMMENT = len(_TAG_HASHES)
"""A comment's place in the table of what was looked for, behind those of the tags."""


@kernel
def is_letter(byte: int) -> bool:
    return 97 <= byte <= 122 or 65 <= byte <= 90


@kernel
def _is_digit(byte: int) -> bool:
    return 48 <= byte <= 57


@kernel
def _name_hash(text: Bytes, begin: int, end: int) -> int:
    value = np.uint64(FNV_BASIS)
    for at in range(begin, end):
        byte = text[at]
        if 65 <= byte <= 90:
            byte += np.uint8(32)  # to lower case
        value = (value ^ np.uint64(byte)) * np.uint64(FNV_PRIME)
    return value  # type: ignore[return-value]


@kernel
def _trim(text: Bytes, begin: int, end: int) -> tuple[int, int]:
    while begin < end and text[begin] in (SPACE, TAB, NEWLINE):
        begin += 1
    while end > begin and text[end - 1] in (SPACE, TAB, NEWLINE):
        end -= 1
    return begin, end


@kernel
def namespace(text: Bytes, begin: int, end: int) -> int:
    """Whether a link's target is a picture's, a category, another language or an article."""
    begin, end = _trim(text, begin, end)
    colon = begin
    while colon < end and colon - begin < 12 and (is_letter(text[colon]) or text[colon] == DASH):
        colon += 1
    if colon in (begin, end) or text[colon] != COLON:
        return ARTICLE
    name = _name_hash(text, begin, colon)
    for place in range(len(_NAMESPACE_HASHES)):
        if _NAMESPACE_HASHES[place] == name:
            return _NAMESPACE_KINDS[place]  # type: ignore[no-any-return]
    # "de:", "zh-min-nan:" lead to the article in another language, and are shown beside the text.
    has_dash = False
    for at in range(begin, colon):
        if text[at] == DASH:
            has_dash = True
        elif text[at] < 97:
            return ARTICLE
    return LANGUAGE if colon - begin in (2, 3) or has_dash else ARTICLE


@kernel
def is_option(text: Bytes, begin: int, end: int) -> bool:
    """Whether a part of a picture's link says how it is shown: "thumb", "120px", "alt=..."."""
    begin, end = _trim(text, begin, end)
    if begin == end:
        return True
    if end - begin > 2 and text[end - 2] == _P and text[end - 1] == _X:
        at = begin
        while at < end - 2 and (_is_digit(text[at]) or text[at] in (_X, SPACE)):
            at += 1
        if at == end - 2:
            return True
    stop = begin
    while stop < end and text[stop] != EQUALS and stop - begin < 16:
        stop += 1
    if stop < end and text[stop] != EQUALS:
        return False
    _, stop = _trim(text, begin, stop)
    name = _name_hash(text, begin, stop)
    return bool(np.any(name == _OPTION_HASHES))


@kernel
def is_attributes(text: Bytes, begin: int, end: int) -> bool:
    """Whether a cell holds attributes and nothing else: `colspan=2 style="..."`."""
    begin, end = _trim(text, begin, end)
    at = begin
    while at < end:
        stop = at
        while stop < end and (is_letter(text[stop]) or text[stop] == DASH):
            stop += 1
        if not np.any(_name_hash(text, at, stop) == _ATTRIBUTE_HASHES):
            return False
        while stop < end and text[stop] == SPACE:
            stop += 1
        if stop == end or text[stop] != EQUALS:
            return False
        stop += 1
        while stop < end and text[stop] == SPACE:
            stop += 1
        quote = text[stop] if stop < end and text[stop] in (QUOTE, APOSTROPHE) else np.uint8(SPACE)
        at = stop if quote == SPACE else stop + 1
        while at < end and text[at] != quote:
            at += 1
        while at < end and (text[at] == SPACE or text[at] == quote):
            at += 1
    return at > begin


@kernel
def tag(text: Bytes, at: int) -> tuple[int, int, int, bool, bool, int]:
    """The tag whose `<` is at `at`: its kind, where its name and where it ends, whether it closes
    a block, whether it is a block in itself, and its place among the tags. NO_TAG for none."""
    n = len(text)
    begin = at + 1
    is_closing = begin < n and text[begin] == SLASH
    if is_closing:
        begin += 1
    stop = begin
    while stop < n and (is_letter(text[stop]) or _is_digit(text[stop])):
        stop += 1
    if stop == begin or not is_letter(text[begin]):
        return NO_TAG, at, at, False, False, 0
    end = stop
    while end < n and text[end] != GREATER and text[end] != LESS:
        if text[end] == QUOTE:
            end = _quoted_end(text, end)
        end += 1
    if end >= n or text[end] != GREATER:
        return NO_TAG, at, at, False, False, 0
    name = _name_hash(text, begin, stop)
    kind, place = INLINE, 0
    for place in range(len(_TAG_HASHES)):
        if _TAG_HASHES[place] == name:
            kind = _TAG_KINDS[place]
            break
    return kind, stop, end + 1, is_closing, text[end - 1] == SLASH, place


@kernel
def _quoted_end(text: Bytes, at: int) -> int:
    """The quote that ends the value begun by the one at `at`; `at` where none does in its line."""
    end = at + 1
    while end < len(text) and text[end] not in (QUOTE, LESS, NEWLINE):
        end += 1
    return end if end < len(text) and text[end] == QUOTE else at


@kernel
def block_end(text: Bytes, at: int, name: Bytes, place: int, found: Places) -> int:
    """Where the block that is open at `at` is closed: where `</name` begins; -1 if it never is.

    `found` keeps what was looked for, so that many openings without a closing are one search.
    """
    if found[place] < at:
        found[place] = _find_closing(text, at, name)
    return -1 if found[place] == len(text) else found[place]


@kernel
def _find_closing(text: Bytes, at: int, name: Bytes) -> int:
    n, size = len(text), len(name)
    while at + size + 2 <= n:
        if text[at] == LESS and text[at + 1] == SLASH:
            same = 0
            while same < size and (text[at + 2 + same] | 32) == (name[same] | 32):
                same += 1
            after = at + 2 + size
            if same == size and (after == n or not is_letter(text[after])):
                return at
        at += 1
    return n


@kernel
def comment_end(text: Bytes, at: int, found: Places) -> int:
    """Behind the comment that is open at `at`; -1 where nothing ends it."""
    n = len(text)
    if found[COMMENT] < at:
        end = at
        while end + 3 <= n and not (
            text[end] == DASH and text[end + 1] == DASH and text[end + 2] == GREATER
        ):
            end += 1
        found[COMMENT] = end if end + 3 <= n else n
    return -1 if found[COMMENT] == n else found[COMMENT] + 3


@kernel
def line_end(text: Bytes, at: int) -> int:
    """Where the line ends that `at` is in."""
    while at < len(text) and text[at] != NEWLINE:
        at += 1
    return at


@kernel
def url_end(text: Bytes, at: int) -> int:
    """Behind the address of an external link that begins at `at`; `at` where there is none."""
    n = len(text)
    end = at
    while end < n and end - at < 12 and is_letter(text[end]):
        end += 1
    has_scheme = end < n and text[end] == COLON and end > at
    if has_scheme:
        end += 1
    is_mail = has_scheme and text[at] == _M  # mailto:
    if not is_mail and not (end + 1 < n and text[end] == SLASH and text[end + 1] == SLASH):
        return at
    end = address_end(text, end)
    while end < n and text[end] == SPACE:
        end += 1
    return end


@kernel
def address_end(text: Bytes, at: int) -> int:
    """Behind the address that `at` is in."""
    while at < len(text) and text[at] > SPACE and not _ENDS_ADDRESS[text[at]]:
        at += 1
    return at
