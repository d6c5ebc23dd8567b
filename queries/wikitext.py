"""Wikitext -> the words a reader sees: markup, references and templates' names taken out.

Every step is one pass of a regular expression that never goes back (its repetitions are possessive
or end at what begins the next match), or one scan with a stack: the time is linear in the text,
whatever the text.
"""

import html
import re
from functools import cache

_OPENING = re.compile(
    r"<!--|<(ref|math|gallery|source|syntaxhighlight|timeline|score|nowiki|pre|chem|graph)"
    r"\b[^<>]*+>",
    re.IGNORECASE,
)
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
# A table begins and ends a line; `|}}` closes a template whose last value is empty.
_BRACES = re.compile(r"\{\{|\}\}|^[ \t:*]*(\{\|)|^[ \t]*(\|\})(?!\})", re.MULTILINE)
_OPENER = {"}}": "{{", "|}": "{|"}
_LINK = re.compile(r"\[\[([^\[\]]*)\]\]")
_EXTERNAL = re.compile(r"\[(?:https?:|ftp:|mailto:)?//[^\s\[\]]*+[ \t]?+([^\[\]\n]*+)\]")
_BARE_URL = re.compile(r"https?://\S+")
_RULED = re.compile(r"^(?:=++|[*#:;]++|-{4,}+)|(?<!=)=++[ \t]*+$|'{2,}+|__[A-Z]++__", re.MULTILINE)
_MEDIA = re.compile(r"^\s*:?(?:file|image|media)\s*:", re.IGNORECASE)
_HIDDEN = re.compile(r"^\s*(?:category|[a-z]{2,3}(?:-[a-z]+)*)\s*:", re.IGNORECASE)
_OPTION = re.compile(
    r"^\s*(?:thumb(?:nail)?|frame(?:d|less)?|border|right|left|center|none|baseline|middle|sub|"
    r"super|top|bottom|upright\S*|(?:\d++x?\d*+|x\d++)px|(?:alt|link|page|lang|class|upright)=.*)\s*$",
    re.IGNORECASE,
)


def strip(wikitext: str) -> str:
    """The text of an article, with one paragraph or list item a line."""
    text = _without_braces(_without_blocks(wikitext))
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


def _without_blocks(text: str) -> str:
    """`text` without comments, references and other blocks; one that never ends is only text."""
    kept: list[str] = []
    endless: set[str] = set()
    end = 0
    while opening := _OPENING.search(text, end):
        kept.append(text[end : opening.start()])
        end = opening.end()
        name = (opening[1] or "!--").lower()
        if opening[0].endswith("/>") or name in endless:
            continue
        closing = _closing(name).search(text, end)
        if closing is None:
            # Looked for once, not again for each opening: the time stays linear.
            endless.add(name)
        else:
            end = closing.end()
    kept.append(text[end:])
    return " ".join(kept)


@cache
def _closing(name: str) -> re.Pattern[str]:
    return re.compile("-->" if name == "!--" else rf"</{name}\s*+>", re.IGNORECASE)


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
