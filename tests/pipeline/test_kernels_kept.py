"""Compiled kernels are kept by what they are made of, wherever their sources lie."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from jobs.shipping import pack

_CALL = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from pipeline import lexicon
assert sys.argv[1] in lexicon.__file__
lexicon.hash_of(np.zeros(16, np.uint8), 0, 16)
print(sum(lexicon.hash_of.stats.cache_hits.values()), lexicon.hash_of.stats.cache_path)
"""


def _hits(packages: Path, cache: Path) -> tuple[int, str]:
    told = subprocess.run(
        [sys.executable, "-c", _CALL, str(packages)],
        env={**os.environ, "XDG_CACHE_HOME": str(cache), "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    hits, folder = told.split()
    return int(hits), folder


def test_an_executor_does_not_compile_what_another_one_has(tmp_path: Path) -> None:
    """Each has the driver's zip in a folder of its own."""
    packed = pack(tmp_path)
    places = [tmp_path / name / packed.name for name in ("first", "second", "other")]
    for place in places:
        place.parent.mkdir()
        place.write_bytes(packed.read_bytes())
    with zipfile.ZipFile(places[2], "a") as other:
        other.writestr("pipeline/more.py", "from pipeline.kernels import kernel\n")
    cache = tmp_path / "cache"
    assert _hits(places[0], cache)[0] == 0
    assert _hits(places[1], cache)[0] == 1
    hits, folder = _hits(places[2], cache)
    assert hits == 0  # of other sources, none can be told to be the same
    assert Path(folder).is_relative_to(cache)
