"""Part: some images of an evaluation set, which are read apart from the others."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Self

import pyarrow as pa

MAX_IMAGE_BYTES = 256 * 2**20
"""A larger image arrives empty, and so counts as undecodable: memory must have a bound."""
PART_IMAGES = 256
PART_BYTES = 64 * 2**20

BROKEN_TABLE = (pa.ArrowException, OSError, ValueError, KeyError)
"""What pyarrow raises on broken files, odd names and texts that are none."""


class File(NamedTuple):
    """A file of a set."""

    name: str
    """Its path in the set's folder, with `/`; of a set that is one file, the file's name."""
    path: str
    size: int


@dataclass(frozen=True)
class EvalImage:
    """One image of an evaluation set, still encoded."""

    name: str
    data: bytes
    split: str | None
    label: str | None


@dataclass(frozen=True)
class EvalHash:
    """What a picture is known by that one may not hold. The names are those of the columns."""

    name: str
    phash: int | None
    """Two's complement, imagehash's bit order."""
    pdq: bytes | None
    quality: int | None
    sha256: str | None
    """Of the file's bytes."""


@dataclass(frozen=True)
class Part:
    """Images of one split, or of none."""

    split: str | None

    def __len__(self) -> int:
        raise NotImplementedError

    @property
    def file(self) -> str:
        """Where the first of them lies."""
        raise NotImplementedError

    def read(self) -> Iterator[EvalImage]:
        """The images, in their order."""
        raise NotImplementedError

    def only(self, names: frozenset[str]) -> Self | None:
        """The images of those names; None when there are none."""
        raise NotImplementedError


def rows_named(prefix: str, names: frozenset[str], rows: range | tuple[int, ...]) -> list[int]:
    """Those of `rows` whose name, `prefix#row`, is wanted, ascending."""
    found = set()
    for name in names:
        before, _, row = name.rpartition("#")
        # int() would take other digits, signs and leading zeros too.
        if before == prefix and row.isascii() and row.isdecimal() and str(int(row)) == row:
            found.add(int(row))
    return sorted(found.intersection(rows))
