"""Reader: what mwparserfromhell finds in wikitext, read as a reader sees it.

Its `strip_code` runs the cells of a table together, keeps "thumb|left|" of a picture's caption and
the text of references, and shows categories. This walks the same tree and does none of it.
"""

import re
from typing import Any

import mwparserfromhell
from mwparserfromhell.nodes import ExternalLink, Heading, HTMLEntity, Tag, Text, Wikilink

_BLOCK = re.compile(
    r"blockquote|br|caption|center|dd|div|dl|dt|h[1-4]|hr|li|ol|p|poem|table|t[dhr]|ul"
)
_HIDDEN = re.compile(
    r"categorytree|ce|chem|graph|hiero|imagemap|inputbox|math|ref|score|section|source|"
    r"syntaxhighlight|templatedata|timeline"
)
_OPTION = re.compile(
    r"\s*(|thumb(nail)?|frame(d|less)?|border|left|right|cent(er|re)|none|baseline|middle|sub|super|"
    r"(text-)?(top|bottom)|upright.*|[\dx ]+px|(alt|link|page|lang|class)\s*=.*)\s*",
    re.DOTALL | re.IGNORECASE,
)


def read(wikitext: str) -> str:
    """What a reader sees of `wikitext`."""
    return re.sub("''+", "", _shown(_parse(wikitext)))


def _parse(wikitext: str) -> Any:
    # An italic that nothing ends makes the parser lose the text up to the next one.
    return mwparserfromhell.parse(wikitext, skip_style_tags=True)


def _shown(code: Any) -> str:
    return "" if code is None else "".join(_node(node) for node in code.nodes)


def _node(node: Any) -> str:
    if isinstance(node, Text):
        return str(node.value)
    if isinstance(node, HTMLEntity):
        return str(node.normalize())
    if isinstance(node, Heading):
        return f"\n{_shown(node.title)}\n"
    if isinstance(node, ExternalLink):
        return _shown(node.title) if node.brackets else ""
    if isinstance(node, Wikilink):
        return _link(node)
    return _tag(node) if isinstance(node, Tag) else ""


def _link(link: Any) -> str:
    space = str(link.title).strip().lower().partition(":")[0]
    if space == "category":
        return ""
    if space in ("file", "image", "media"):
        return _caption(_shown(link.text))
    return _shown(link.text if link.text is not None else link.title)


def _caption(parts: str) -> str:
    captions = [part for part in parts.split("|") if not _OPTION.fullmatch(part)]
    return f"\n{captions[-1]}\n" if captions else "\n"


def _tag(tag: Any) -> str:
    name = str(tag.tag).strip().lower()
    if name == "gallery":
        lines = [line.partition("|")[2] for line in str(tag.contents).splitlines()]
        return "".join(_caption(_shown(_parse(line))) for line in lines)
    if _HIDDEN.fullmatch(name):
        return " "
    shown = _shown(tag.contents)
    return f"\n{shown}\n" if _BLOCK.fullmatch(name) else shown
