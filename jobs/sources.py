"""Sources: the files that a setting names, where `*` stands for anything."""

import glob
from pathlib import Path


def expand(patterns: list[str]) -> list[str]:
    """The files, each once, in the order of the settings and then of their names.

    A pattern that no file fits stands for itself, as a path does that is not there: who reads it
    says that it is missing.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        # A file may be called so; and Path.glob takes no pattern that begins at the root.
        is_path = "*" not in pattern or Path(pattern).exists()
        fitting = [] if is_path else sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207
        found.update(dict.fromkeys(fitting or [pattern]))
    return list(found)
