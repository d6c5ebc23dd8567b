"""Srcset: the largest of the pictures that one attribute offers (HTML, 4.8.4.3.5)."""

import re

_ADDRESS = re.compile(r"[\t\n\f\r ,]*([^\t\n\f\r ,][^\t\n\f\r ]*)")
# A comma inside brackets ends no candidate.
_DESCRIPTORS = re.compile(r"(?:[^,(]++|\([^)]*+\)?+)*+")
_SIZE = re.compile(r"([0-9]{1,9})w|([0-9]{0,9}(?:\.[0-9]{1,9})?)x|[0-9]{1,9}h")


def largest(srcset: str) -> str | None:
    """The address of the widest candidate, or of the densest where no width is told.

    The first of equals; None when there is none that is not inside its own address (`data:`).
    Commas belong to an address unless they end it.
    """
    best: tuple[int, float] | None = None
    address = None
    at = 0
    while found := _ADDRESS.match(srcset, at):
        candidate, at = found[1], found.end()
        size: tuple[int, float] | None = (0, 1.0)
        if candidate.endswith(","):
            candidate = candidate.rstrip(",")
        elif descriptors := _DESCRIPTORS.match(srcset, at):
            at = descriptors.end()
            size = _size(descriptors[0])
        is_better = size is not None and (best is None or size > best)
        if is_better and not is_inline(candidate):
            best, address = size, candidate
    return address


def is_inline(address: str) -> bool:
    """Whether the address holds the picture itself; such pictures stand where others will be."""
    return address[:5].lower() == "data:"


def _size(descriptors: str) -> tuple[int, float] | None:
    """Width and density; None for what no browser would take."""
    width, density = 0, 1.0
    for word in descriptors.split():
        found = _SIZE.fullmatch(word)
        if found is None or word == "x":
            return None
        if found[1] is not None:
            width = int(found[1])
            if not width:
                return None
        elif found[2] is not None:
            density = float(found[2])
    return width, density
