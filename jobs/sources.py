"""Sources: the files that a setting names, where `*` stands for anything."""

import glob
from pathlib import Path

from pipeline.errors import BadInput


def expand(key: str, patterns: list[str]) -> list[str]:
    """The files, each once, in the order of the settings and then of their names.

    Raises BadInput for a pattern that nothing fits; a path without `*` is taken as it is.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        # A file may be called so.
        if "*" not in pattern or Path(pattern).exists():
            found.setdefault(pattern)
            continue
        # Path.glob takes no pattern that begins at the root.
        fitting = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207
        if not fitting:
            raise BadInput(f"{key}: no file is called {pattern}: correct the pattern")
        found.update(dict.fromkeys(fitting))
    return list(found)
