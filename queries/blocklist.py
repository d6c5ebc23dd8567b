"""Blocklist: queries that are never taken.

reads   a file of one query a line; `* word *` stands for every query that holds it
writes  whether a query is blocked, and by which line
"""

from typing import NamedTuple

from pipeline import storage
from pipeline.errors import BadInput
from pipeline.text import normalise


class Blocklist(NamedTuple):
    """Normalised queries that are blocked, each with the line that says so."""

    exact: dict[str, str]
    within: dict[str, str]
    """These are blocked wherever their tokens stand side by side."""

    def line(self, query: str) -> str | None:
        """The line that blocks a normalised query, as it is written; None where none does."""
        if query in self.exact:
            return self.exact[query]
        if not self.within:
            return None
        tokens = query.split(" ")
        for begin in range(len(tokens)):
            for end in range(begin + 1, len(tokens) + 1):
                line = self.within.get(" ".join(tokens[begin:end]))
                if line is not None:
                    return line
        return None


def load(path: str | None) -> Blocklist:
    """The blocklist of a file; an empty one without. Raises BadInput for a line without a word."""
    blocked = Blocklist({}, {})
    if path is None:
        return blocked
    try:
        lines = storage.read(storage.place(path)).decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"derive.blocklist: {path} cannot be read ({error})") from None
    for number, line in enumerate(lines, start=1):
        written = line.strip()
        if not written or written.startswith("#"):
            continue
        is_within = written.startswith("* ") and written.endswith(" *")
        query = normalise(written.strip("*") if is_within else written)
        if not query or ("*" in written and not is_within):
            raise BadInput(
                f"derive.blocklist: {path}, line {number} is no query: write `word` to block it, "
                "or `* word *` to block every query that holds it"
            )
        (blocked.within if is_within else blocked.exact)[query] = written
    return blocked
