"""Fuzzing by hand: `python -m tests.fuzz.wat -max_total_time=60`; the flags are libFuzzer's."""

import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what is imported before atheris is not followed by it
    from pipeline.ingest.links import Link


def fuzz(load: Callable[[], Callable[[bytes], object]]) -> None:
    """Call what `load` imports with bytes that reach ever more of its lines, until one raises."""
    try:
        import atheris
    except ImportError:
        sys.stdout.write("skipped: atheris is not installed (`pip install atheris`)\n")
        return
    with atheris.instrument_imports(include=["pipeline"]):
        one = load()
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


def check(links: Iterable["Link"]) -> None:
    """Every link is text that can be written, or has a reason."""
    for link in links:
        for text in link:
            if text is not None:
                text.encode()
