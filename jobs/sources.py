"""Sources: the files that a setting names, where `*` stands for anything."""

from pipeline import inputs


def expand(patterns: list[str]) -> list[str]:
    """The files, each once, in the order of the settings and then of their names.

    They are paths or addresses in a store. A pattern that none fits stands for itself, as a path
    does that is not there: who reads it says that it is missing.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        is_name = "*" not in pattern or inputs.kind(pattern) is not None  # a file may be called so
        fitting = [] if is_name else inputs.fitting(pattern)
        found.update(dict.fromkeys(fitting or [pattern]))
    return list(found)
