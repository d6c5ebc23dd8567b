"""WordNet: the name of every synset.

reads   data.noun, data.verb, data.adj, data.adv (wndb(5WN), WordNet 3.0)
writes  names, in the order of the files
"""

import re
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import BadInput

_FILES = ("data.noun", "data.verb", "data.adj", "data.adv")
_MARKER = re.compile(r"\((?:a|p|ip)\)$")


def synset_names(folder: str) -> list[str]:
    """The first lemma of each synset, each name once. Raises BadInput for missing files."""
    names: dict[str, None] = {}
    for file in _FILES:
        path = Path(folder) / file
        if not path.is_file():
            raise BadInput(
                f"derive.wordnet: {path} does not exist: install WordNet's database "
                "(Debian, Ubuntu: `apt-get install wordnet-base`, then /usr/share/wordnet)"
            )
        for name in _lemmas(path):
            names.setdefault(name)
    return list(names)


def _lemmas(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            if line.startswith("  ") or not line.strip():
                continue  # the licence at the head of each file
            fields = line.split(" ", 5)
            if len(fields) < 6:
                raise BadInput(f"derive.wordnet: {path}, line {number} is not a synset")
            # Adjectives carry where they may stand: "alive(p)".
            yield _MARKER.sub("", fields[4]).replace("_", " ")
