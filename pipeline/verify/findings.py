"""Findings: what is wrong with shards, counted by kind, the first ones kept."""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

MOST_OF_A_KIND = 1000
"""That are kept; all are counted."""
_MAX_CHARS = 200
"""Of a text that is told: names of members may have thousands."""


class Finding(NamedTuple):
    """One thing that is wrong."""

    kind: str
    file: str
    """Its name in the folder."""
    key: str | None = None
    """Of the sample."""
    at: int | None = None
    """The byte in the file."""
    detail: str = ""

    def __str__(self) -> str:
        parts = [shown(self.file), shown(self.key or "")]
        parts += [] if self.at is None else [f"byte {self.at:,}"]
        return ", ".join(part for part in [*parts, shown(self.detail)] if part)


class Findings:
    """Of a file, a shard or a folder."""

    def __init__(self, most: int = MOST_OF_A_KIND) -> None:
        self.counts: Counter[str] = Counter()
        self._most = most
        self._kept: dict[str, list[Finding]] = {}

    def __len__(self) -> int:
        return self.counts.total()

    def __iter__(self) -> Iterator[Finding]:
        """Those that were kept, kind by kind, each kind in the order of its coming."""
        for kind in sorted(self._kept):
            yield from self._kept[kind]

    def of(self, kind: str) -> list[Finding]:
        return self._kept.get(kind, [])

    def add(
        self, kind: str, file: str, key: str | None = None, at: int | None = None, detail: str = ""
    ) -> None:
        self.counts[kind] += 1
        kept = self._kept.setdefault(kind, [])
        if len(kept) < self._most:
            told = None if key is None else key[:_MAX_CHARS]
            kept.append(Finding(kind, file[:_MAX_CHARS], told, at, detail[:_MAX_CHARS]))

    def count(self, kind: str, more: int) -> None:
        """`more` of a kind, of which no further one is told."""
        if more:
            self.counts[kind] += more

    def merge(self, other: "Findings") -> None:
        """Those of `other` behind the own ones."""
        self.counts += other.counts
        for kind, more in other._kept.items():
            kept = self._kept.setdefault(kind, [])
            kept += more[: self._most - len(kept)]


def shown(text: str) -> str:
    """For a terminal: names in archives may hold what moves its cursor."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode()
        for char in text
    )
