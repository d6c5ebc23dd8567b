"""Names: what an image is called in reports, whatever its file was called.

A name is an id and never a path to write to; it holds nothing that leads out of a folder, breaks a
line or cannot be written as UTF-8, and no two images of a set share one.
"""

from collections import Counter
from pathlib import PurePosixPath

_MAX_CHARS = 1000
_SUFFIXES = {".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm"}
_SUFFIXES |= {".pgm", ".jp2", ".avif"}


def is_picture(name: str) -> bool:
    """Whether the name of a file is that of an image, and not macOS's shadow of one."""
    path = PurePosixPath(name)
    is_shadow = path.name.startswith("._") or "__MACOSX" in path.parts
    return path.suffix.lower() in _SUFFIXES and not is_shadow


def steps(name: str) -> tuple[str, ...]:
    """The harmless steps of a path: no root, no `..`, and escapes for what cannot be shown."""
    names = name[-_MAX_CHARS:].split("/")
    return tuple(_shown(step) for step in names if step not in ("", ".", ".."))


def _shown(step: str) -> str:
    if step.isprintable():
        return step
    return "".join(char if char.isprintable() else _escaped(ord(char)) for char in step)


def _escaped(point: int) -> str:
    if 0xDC80 <= point <= 0xDCFF:  # a byte that was no UTF-8, as surrogateescape holds it
        return f"\\x{point - 0xDC00:02x}"
    return f"\\x{point:02x}" if point < 0x100 else f"\\u{point:04x}"


class Names:
    """The names of one set. The second image of one name is called `name (2)`."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._times: Counter[str] = Counter()

    def own(self, name: str) -> str:
        """`name`, or what it is called when it is taken."""
        found = name or "(no name)"
        while found in self._taken:
            self._times[name] += 1
            found = f"{name} ({self._times[name] + 1})"
        self._taken.add(found)
        return found
