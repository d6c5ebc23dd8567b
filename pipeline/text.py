"""Text: the one normalisation that queries and captions share.

Two texts match when their tokens are equal, so queries and captions must be cut by the same
rule: NFKC, lower case, then every run of letters, numbers and marks is a token.
"""

import re
import sys
import unicodedata


def _marks() -> str:
    """A character class of every combining mark: `re` leaves marks out of its word class."""
    marks = [c for c in range(sys.maxunicode + 1) if unicodedata.category(chr(c))[0] == "M"]
    ranges: list[list[int]] = []
    for code in marks:
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges)


TOKEN = re.compile(f"(?:[^\\W_]|[{_marks()}])+")
"""A token of folded text."""


# Half of a surrogate pair is a character to Python, and none to any encoding.
_SURROGATE = re.compile("[\ud800-\udfff]")


def encodable(text: str) -> str:
    """`text` with every half of a surrogate pair replaced."""
    return _SURROGATE.sub("\ufffd", text)


def fold(text: str) -> str:
    """`text` in NFKC and lower case; folding twice changes nothing."""
    if text.isascii():
        return text.lower()
    # A line end composes with nothing, so that only the lines that need it are normalised. The
    # space that does not break is the one reason for most of them.
    text = text.replace("\xa0", " ")
    if "\n" in text and not unicodedata.is_normalized("NFKC", text):
        return "\n".join([_fold_line(line) for line in text.split("\n")])
    return _fold_line(text)


def _fold_line(text: str) -> str:
    # Lower case can leave NFKC (U+03D3), and NFKC can bring capitals back (U+2121, "TEL").
    folded = unicodedata.normalize("NFKC", text)
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", folded.lower()).lower())


def tokens(text: str) -> list[str]:
    """The tokens of `text`, in order."""
    return TOKEN.findall(fold(text))


def normalise(text: str) -> str:
    """The tokens of `text` joined by single spaces; empty when there is none."""
    return " ".join(tokens(text))
