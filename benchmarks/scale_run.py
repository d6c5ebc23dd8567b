"""The run that the scale benchmark begins with, at every size the same."""

from pathlib import Path

from benchmarks.shuffles import JOIN_AS_AT_SCALE
from jobs.run import Run

_COMMON = """\
[spark]
driver_memory = "2g"
partitions = 64
"""


def begun(folder: Path, *sets: str) -> Run:
    """A new run in `folder`, with `sets` beside what all of them have."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "scale.toml"
    config.write_text(_COMMON, encoding="utf-8")
    return Run.open(folder / "run", config, [JOIN_AS_AT_SCALE, *sets])
