"""Outside a run: the settings file and the folder of a command that needs no run directory."""

import tomllib
from collections.abc import Sequence
from pathlib import Path

from jobs import load
from jobs.progress import Progress
from jobs.run import SETTINGS
from pipeline.errors import BadInput
from pipeline.settings import Settings


def settings_of(evals: Path, sections: Sequence[str], whom: str, progress: Progress) -> Settings:
    """The settings of --evals; sections other than these do not matter to `whom`, which is said."""
    settings = load.load(evals, [])
    others = sorted(set(tomllib.loads(evals.read_text(encoding="utf-8"))) - set(sections))
    if others:
        progress.say(f"{evals}: [{'], ['.join(others)}] do not matter to {whom}")
    return settings


def check_is_no_run(out: Path, verb: str) -> None:
    """Raise BadInput where --out is a run directory, whose own command is `verb`."""
    if (out / SETTINGS).exists():
        raise BadInput(f"--out {out} is a run directory: name another, or {verb} it with --run")


def make_folder(out: Path, inner: str = ".") -> None:
    """Make --out, with a folder in it. Raises BadInput."""
    try:
        (out / inner).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--out {out} cannot be made ({error.strerror}): name another") from None
