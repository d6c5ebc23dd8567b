"""Text: the one normalisation that queries and captions share.

Two texts match when their tokens are equal, so queries and captions must be cut by the same
rule: NFKC, lower case, then every run of letters, numbers and marks is a token.
"""

import html
import re
import sys
import unicodedata


def of_category(letter: str) -> list[int]:
    """The code points whose category in Unicode begins with `letter`, which `re` does not know."""
    return [c for c in range(sys.maxunicode + 1) if unicodedata.category(chr(c))[0] == letter]


def ranges(codes: list[int]) -> str:
    """The inside of a character class that matches `codes`, which are sorted."""
    found: list[list[int]] = []
    for code in codes:
        if found and found[-1][1] == code - 1:
            found[-1][1] = code
        else:
            found.append([code, code])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in found)


# `re` leaves marks out of its word class.
_MARKS = of_category("M")
TOKEN = re.compile(f"(?:[^\\W_]|[{ranges(_MARKS)}])+")
"""A token of folded text."""


# Marks on one letter are sorted when it is normalised, in time that grows with their square. No
# script has thirty (UAX 15, Stream-Safe Text Format); more are noise, and cut off.
_STACKING = [code for code in _MARKS if unicodedata.combining(chr(code))]
_STACKED = re.compile(f"([{ranges(_STACKING)}]{{30}})[{ranges(_STACKING)}]+")
# That is slow to look for. What this quicker one does not find has at most ten marks in a row, and
# thirty when it is normalised, since a mark becomes three at most.
_MAY_BE_STACKED = re.compile(
    f"[{ranges([code for code in _STACKING if code < 0x10000])}\U00010000-\U0010ffff]{{11}}"
)

# More digits than any code point has; from 4,300 on Python refuses to read them.
_LONG_NUMBER = re.compile("&#[0-9]{8,};?")

# Half of a surrogate pair is a character to Python, and none to any encoding.
_SURROGATE = re.compile("[\ud800-\udfff]")


def encodable(text: str) -> str:
    """`text` with every half of a surrogate pair replaced."""
    return _SURROGATE.sub("\ufffd", text)


def unescape(text: str) -> str:
    """`text` with HTML's entities replaced by what they stand for."""
    return html.unescape(_LONG_NUMBER.sub("\ufffd", text) if "&#" in text else text)


def fold(text: str) -> str:
    """`text` in NFKC and lower case; folding twice changes nothing."""
    if text.isascii():
        return text.lower()
    # A line end composes with nothing, so that lines fold apart; and most of them are ASCII.
    return "\n".join([_fold_line(line) for line in text.split("\n")])


def _fold_line(text: str) -> str:
    if text.isascii():
        return text.lower()
    if _MAY_BE_STACKED.search(text):
        return _fold_stacked(text)
    # Lower case can leave NFKC (U+03D3), and NFKC can bring capitals back (U+2121, "TEL").
    folded = unicodedata.normalize("NFKC", text)
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", folded.lower()).lower())


def _fold_stacked(text: str) -> str:
    """The same where marks may be stacked: they are cut off wherever they come to be."""
    folded = _STACKED.sub(r"\1", text)
    for step in (str, str.lower, str.lower):
        folded = _STACKED.sub(r"\1", unicodedata.normalize("NFKC", step(folded)))
    return folded


def tokens(text: str) -> list[str]:
    """The tokens of `text`, in order."""
    return TOKEN.findall(fold(text))


def normalise(text: str) -> str:
    """The tokens of `text` joined by single spaces; empty when there is none."""
    return " ".join(tokens(text))
