"""WordNet: the name of every synset.

reads   data.noun, data.verb, data.adj, data.adv (wndb(5WN), WordNet 3.0)
writes  names, in the order of the files
"""

import re
from collections.abc import Iterator
from io import TextIOWrapper
from typing import Literal

from pipeline import inputs, storage
from pipeline.errors import BadInput
from pipeline.storage import Place

_FILES = ("data.noun", "data.verb", "data.adj", "data.adv")
_MARKER = re.compile(r"\((?:a|p|ip)\)$")


def synset_names(folder: str, names: Literal["lemma", "metaclip"] = "lemma") -> list[str]:
    """The first lemma of each synset, each name once. Raises BadInput for missing files.

    With `metaclip`, as MetaCLIP's list has them: NLTK's `synset.name()`, a lower-case lemma before
    a dot, a letter and a number, cut at the first dot. That mangles the lemmas that hold a dot,
    "st. louis" to "st", and leaves nothing of those that begin with one.
    """
    found: dict[str, None] = {}
    for file in _FILES:
        path = storage.place(folder) / file
        if inputs.kind(path) != "file":
            raise BadInput(
                f"derive.wordnet: {path} does not exist: install WordNet's database "
                "(Debian, Ubuntu: `apt-get install wordnet-base`, then /usr/share/wordnet)"
            )
        for lemma in _lemmas(path):
            name = lemma.lower().split(".")[0] if names == "metaclip" else lemma
            if name:
                found.setdefault(name.replace("_", " "))
    return list(found)


def _lemmas(path: Place) -> Iterator[str]:
    with TextIOWrapper(storage.opened(path), encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            if line.startswith("  ") or not line.strip():
                continue  # the licence at the head of each file
            fields = line.split(" ", 5)
            if len(fields) < 6:
                raise BadInput(f"derive.wordnet: {path}, line {number} is not a synset")
            # Adjectives carry where they may stand: "alive(p)".
            yield _MARKER.sub("", fields[4])
