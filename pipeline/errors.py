"""Mistakes that a person can mend: one line each, naming the next step."""


class WitError(Exception):
    """Shown to the user as one line, without a traceback."""

    exit_code = 2


class BadInput(WitError):
    """A source file, a table or a setting is not what it must be."""


class MissingTable(WitError):
    """A stage was asked for before the one it reads from."""
