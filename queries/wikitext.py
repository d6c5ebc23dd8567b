"""Wikitext -> the words a reader sees: markup, references and templates' names taken out.

Every step is one pass of a regular expression without nested repetition, or one scan with a
counter, so that the time is linear in the text, whatever the text.
"""

import html
import re

_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_BLOCK = re.compile(
    r"<(ref|math|gallery|source|syntaxhighlight|timeline|score|nowiki|pre|chem|graph)\b[^<>]*"
    r"(?:/>|>.*?</\1\s*>)",
    re.DOTALL | re.IGNORECASE,
)
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
# A table begins and ends a line; `|}}` closes a template whose last value is empty.
_BRACES = re.compile(r"\{\{|\}\}|^[ \t:*]*(\{\|)|^[ \t]*(\|\})(?!\})", re.MULTILINE)
_OPENER = {"}}": "{{", "|}": "{|"}
_LINK = re.compile(r"\[\[([^\[\]]*)\]\]")
_EXTERNAL = re.compile(r"\[(?:https?:|ftp:|mailto:)?//[^\s\]]*\s?([^\]\n]*)\]")
_BARE_URL = re.compile(r"https?://\S+")
_RULED = re.compile(r"^(?:=+|[*#:;]+|-{4,})|=+\s*$|'{2,}|__[A-Z]+__", re.MULTILINE)
_MEDIA = re.compile(r"^\s*:?(?:file|image|media)\s*:", re.IGNORECASE)
_HIDDEN = re.compile(r"^\s*(?:category|[a-z]{2,3}(?:-[a-z]+)*)\s*:", re.IGNORECASE)
_OPTION = re.compile(
    r"^\s*(?:thumb(?:nail)?|frame(?:d|less)?|border|right|left|center|none|baseline|middle|sub|"
    r"super|top|bottom|upright\S*|\d*x?\d+px|(?:alt|link|page|lang|class|upright)=.*)\s*$",
    re.IGNORECASE,
)


def strip(wikitext: str) -> str:
    """The text of an article, with one paragraph or list item a line."""
    text = _COMMENT.sub(" ", wikitext)
    text = _BLOCK.sub(" ", text)
    text = _without_braces(text)
    # Links nest at most once in practice: a picture's caption that holds links.
    for _ in range(3):
        text, count = _LINK.subn(_shown, text)
        if not count:
            break
    text = _EXTERNAL.sub(r"\1", text)
    text = _BARE_URL.sub(" ", text)
    text = _TAG.sub(" ", text)
    text = _RULED.sub(" ", text)
    return html.unescape(text)


def _without_braces(text: str) -> str:
    """`text` without templates and tables, however they nest.

    A closer also closes what was left open inside; an opener that nothing closes is only text.
    """
    open_at: list[tuple[str, int]] = []
    waiting = {"{{": 0, "{|": 0}
    closed: list[tuple[int, int]] = []
    for brace in _BRACES.finditer(text):
        kind = brace[1] or brace[2] or brace[0]
        if kind in waiting:
            open_at.append((kind, brace.start()))
            waiting[kind] += 1
        elif waiting[_OPENER[kind]]:
            opener = ""
            while opener != _OPENER[kind]:
                opener, begin = open_at.pop()
                waiting[opener] -= 1
            # What it encloses came before it.
            while closed and closed[-1][0] > begin:
                closed.pop()
            closed.append((begin, brace.end()))
    kept, end = [], 0
    for begin, after in closed:
        kept.append(text[end:begin])
        end = after
    kept.append(text[end:])
    return " ".join(kept)


def _shown(link: re.Match[str]) -> str:
    """What a reader sees of an internal link."""
    parts = link[1].split("|")
    if _MEDIA.match(parts[0]):
        captions = [part for part in parts[1:] if not _OPTION.match(part)]
        return f"\n{captions[-1]}\n" if captions else " "
    if len(parts) == 1:
        return " " if _HIDDEN.match(parts[0]) else parts[0]
    return " " if _HIDDEN.match(parts[0]) and not parts[-1] else parts[-1]
