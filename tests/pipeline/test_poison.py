"""pipeline.poison and pipeline.alone"""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import compaction_rows
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import poison
from pipeline.alone import Died, alone
from pipeline.errors import BadInput


def _end(how: str) -> str:
    if how == "raises":
        raise KeyError("what")
    if how == "refuses":
        raise BadInput("mend it")
    if how == "leaves":
        os._exit(3)
    if how == "crashes":
        os.kill(os.getpid(), signal.SIGSEGV)
    return how


def test_what_works_alone_returns_raises_or_is_seen_to_have_died() -> None:
    assert alone(_end, "returns") == "returns"
    with pytest.raises(KeyError, match="what"):
        alone(_end, "raises")
    with pytest.raises(Died, match="exit code 3"):
        alone(_end, "leaves")
    with pytest.raises(Died, match=r"signal 11 \(Segmentation fault\)"):
        alone(_end, "crashes")


def test_the_last_try_tells_what_went_wrong_and_others_fail() -> None:
    assert poison.tried(_end, "returns", tries=1) == "returns"
    told = poison.tried(_end, "raises", tries=1)
    assert told == poison.Trouble(socket.gethostname(), "KeyError: 'what'")
    with pytest.raises(KeyError):
        poison.tried(_end, "raises", tries=2)
    with pytest.raises(BadInput, match="mend it"):
        poison.tried(_end, "refuses", tries=1)


def test_the_shards_that_failed_are_told_in_one_line() -> None:
    troubles = [poison.Poisoned(f"{n:05d}", "host", "ValueError: bad") for n in range(7)]
    told = str(poison.told("download", troubles, 93))
    assert "\n" not in told
    assert told.startswith(
        "download: 7 shards failed at every try: 00000 (on host: ValueError: bad)"
    )
    assert told.endswith(
        "and 2 more; the other 93 are done: mend the cause and run `wit build`, which goes on "
        "with them alone"
    )
    assert "1 shard failed" in str(poison.told("shard", troubles[:1], 0))


def test_sparks_other_tasks_are_done_when_one_always_fails_or_crashes(tmp_path: Path) -> None:
    rows = compaction_rows.make(tmp_path / "raw", 9)
    # The name of a sample cannot hold a dot: the writer of the tar refuses it at every try.
    names = [f"{name}.x" if n == 4 else name for n, name in enumerate(rows["pair_id"].to_pylist())]
    rows = rows.set_column(rows.column_names.index("pair_id"), "pair_id", pa.array(names))
    numbers = pa.array([n // 3 for n in range(9)], pa.int32())
    pq.write_table(rows.append_column("number", numbers), tmp_path / "rows.parquet")
    here = Path(__file__).parent
    environment = {**os.environ, "PYSPARK_PYTHON": sys.executable}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, (here, here.parents[1])))
    command = [sys.executable, str(here / "poison_tasks.py"), str(tmp_path)]
    ran = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    told = json.loads((tmp_path / "told.json").read_text())
    host = socket.gethostname()
    assert told["tries"] == 2
    assert told["crashes"] == [
        [0, 0, None, None],
        [1, 1, None, None],
        [2, None, host, "its process ended with signal 11 (Segmentation fault)"],
        [3, None, host, "ValueError: bad shard"],
    ]
    (first, second, third) = told["shards"]
    assert (first[:2], third[:2]) == (["000000.tar", 3], ["000002.tar", 3])
    assert second[0] == "000001.tar"
    assert second[2].startswith("ValueError: ")
    lie = sorted(file.name for file in (tmp_path / "shards").glob("*.tar"))
    assert lie == ["000000.tar", "000002.tar"]
