"""Small dumps, pageviews and WordNets for the tests of the queries."""

import bz2
from pathlib import Path
from xml.sax.saxutils import escape

HEAD = "<mediawiki><siteinfo><dbname>enwiki</dbname></siteinfo>\n"


def page(title: str, text: str = "", ns: int = 0, target: str | None = None) -> str:
    """A page as a dump holds it."""
    redirect = "" if target is None else f'<redirect title="{escape(target)}" />'
    return (
        f"<page><title>{escape(title)}</title><ns>{ns}</ns>{redirect}<revision>"
        f'<text bytes="1" xml:space="preserve">{escape(text)}</text></revision></page>\n'
    )


def write_dump(path: Path, *pages: str) -> str:
    """A packed dump of these pages, without the closing tag, as excerpts are; its path."""
    path.write_bytes(bz2.compress((HEAD + "".join(pages)).encode()))
    return str(path)


def write_wordnet(folder: Path, *names: str) -> str:
    """A WordNet of these lemmas, the first file with all but the last three; its path."""
    folder.mkdir(exist_ok=True)
    files = ["noun"] * (len(names) - 3) + ["verb", "adj", "adv"]
    for file in ("noun", "verb", "adj", "adv"):
        lines = [
            f"0000174{place} 03 {file[0]} 02 {name} 0 other 0 000 | a gloss"
            for place, (name, where) in enumerate(zip(names, files, strict=True))
            if where == file
        ]
        (folder / f"data.{file}").write_text("\n".join(["  1 licence", *lines]) + "\n")
    return str(folder)
