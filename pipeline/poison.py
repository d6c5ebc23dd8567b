"""Poison: a shard whose task always fails is named, and the others are made all the same.

Spark ends a stage when one of its tasks has failed as often as it may. So the last try that a task
has does not fail: what went wrong travels as a row, and the stage tells of it when all else is
done. Where tries before it may have taken their process with them, the last one works in a process
of its own.
"""

import re
import socket
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import SparkSession

from pipeline.alone import alone
from pipeline.errors import BadInput, WitError

T = TypeVar("T")

FIELDS = [pa.field("machine", pa.string()), pa.field("trouble", pa.string())]
"""Of a task's row: both are null where all went well."""
DDL = "machine string, trouble string"
_TOLD_CHARS = 200
_TOLD_SHARDS = 5


class Trouble(NamedTuple):
    """Why a shard could not be made, and where that was seen."""

    machine: str
    trouble: str


class Poisoned(NamedTuple):
    """A shard, by name, that could not be made."""

    name: str
    machine: str
    trouble: str


def tries(spark: SparkSession) -> int:
    """How often a task may fail before Spark gives up: it must not, the last time."""
    local = re.fullmatch(r"local(?:\[[^,\]]*(?:,\s*(\d+))?\])?", str(spark.sparkContext.master))
    if local:
        return int(local[1] or 1)
    return int(spark.sparkContext.getConf().get("spark.task.maxFailures", "4") or 4)


def tried(work: Callable[..., T], *arguments: Any, tries: int) -> T | Trouble:
    """What `work` returns, in a task that may fail so often; what went wrong, the last time.

    A WitError is raised always: what a person must mend stops all shards alike.
    """
    context = TaskContext.get()
    # Tries that were killed count here and not with Spark: it gives up later than this.
    before = 0 if context is None else context.attemptNumber()
    is_last = before + 1 >= tries
    try:
        return alone(work, *arguments) if is_last and before else work(*arguments)
    except WitError:
        raise
    except Exception as error:
        if not is_last:
            raise
        return Trouble(socket.gethostname(), _in_a_line(error))


def check(verb: str, rows: Sequence[tuple[str, Any]]) -> None:
    """Raise BadInput where the rows of shards, each with the shard's name, tell of trouble."""
    poisoned = [
        Poisoned(name, row["machine"], row["trouble"])
        for name, row in rows
        if row["trouble"] is not None
    ]
    if poisoned:
        raise told(verb, poisoned, len(rows) - len(poisoned))


def told(verb: str, poisoned: Sequence[Poisoned], others: int) -> BadInput:
    """What a stage says in the end of shards that could not be made."""
    named = sorted(poisoned)
    shown = [f"{name} (on {machine}: {why})" for name, machine, why in named[:_TOLD_SHARDS]]
    if len(named) > _TOLD_SHARDS:
        shown.append(f"and {len(named) - _TOLD_SHARDS:,} more")
    shards, them = ("shard", "it") if len(named) == 1 else ("shards", "them")
    return BadInput(
        f"{verb}: {len(named):,} {shards} failed at every try: {', '.join(shown)}; the other "
        f"{others:,} are done: mend the cause and run `wit build`, which goes on with {them} alone"
    )


def _in_a_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    kind = "" if type(error).__name__ == "Died" else f"{type(error).__name__}: "
    return f"{kind}{text}"[:_TOLD_CHARS]
