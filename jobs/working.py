"""Working: who works on a run now, at what, how far it is, and whether it still lives.

reads   walk.jsonl, and the name in the run's lock

Neither the lock nor Spark is needed for it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from jobs import hold, lock
from jobs.jsonlines import Line, last
from jobs.metrics import WALK
from pipeline.storage import Place

_TAIL_BYTES = 1 << 17

State = Literal["running", "silent", "killed", "failed"]


@dataclass(frozen=True)
class Working:
    """What is known of the process that works on a run, or that ended before it was done."""

    state: State
    """`silent`: it may live, but shows no sign of it; `failed`: it ended with an error."""
    host: str
    pid: int
    since: str
    verb: str | None
    """None before the first stage and between two."""
    verb_since: str | None
    step: str | None
    """The table that is made, or what else is done."""
    unit: str | None
    done: int | None
    total: int | None
    per_second: float | None
    seconds_left: float | None
    failed: int | None
    """Tasks of the step that failed; Spark tries them again."""
    executors: int | None
    silent_seconds: float
    """Since the last sign of life."""
    error: str | None
    ui: str | None


def working(root: Place) -> Working | None:
    """Who works on the run at `root`, or did until it failed or was killed; None otherwise."""
    owner, lines = hold.owner(root), _lines(root)
    state: State
    if owner is None:
        if not lines or lines[-1]["event"] != "failed":
            return None
        line = lines[-1]
        host, pid, since = line["host"], line["pid"], line["since"]
        mine, silent, state = _of(lines, host, pid), _ago(line), "failed"
    else:
        host, pid = owner.host, owner.pid
        since = datetime.fromtimestamp(owner.since).astimezone().isoformat(timespec="seconds")
        mine = [line for line in _of(lines, host, pid) if _time(line) >= owner.since - 1]
        silent = min([hold.silent_seconds(root), *(_ago(line) for line in mine[-1:])])
        state = _state_of(root, owner, silent)
    now = mine[-1] if mine else {}
    is_in_stage = bool(now) and now["event"] != "end"
    step = _step(mine) if is_in_stage else {}
    spark = [line for line in mine if line["event"] == "spark"]
    return Working(
        state=state,
        host=host,
        pid=pid,
        since=since,
        verb=now["verb"] if is_in_stage else None,
        verb_since=now["since"] if is_in_stage else None,
        step=step.get("step"),
        unit=step.get("unit"),
        done=step.get("done"),
        total=step.get("total"),
        per_second=step.get("per_second"),
        seconds_left=step.get("seconds_left"),
        failed=step.get("failed"),
        executors=step.get("executors"),
        silent_seconds=round(silent, 1),
        error=now.get("error"),
        ui=spark[-1].get("ui") if spark and state == "running" else None,
    )


def _state_of(root: Place, owner: lock.Owner, silent: float) -> State:
    if hold.has_ended(root, owner):
        return "killed"
    return "running" if silent < lock.STALE_SECONDS else "silent"


def _lines(root: Place) -> list[Line]:
    needed = {"time", "event", "verb", "since", "host", "pid"}
    return [line for line in last(root / WALK, _TAIL_BYTES) if needed <= line.keys()]


def _of(lines: list[Line], host: str, pid: int) -> list[Line]:
    """The lines of one process."""
    return [line for line in lines if (line["host"], line["pid"]) == (host, pid)]


def _step(lines: list[Line]) -> dict[str, Any]:
    """The last step of the stage that the last line is of; nothing once its table is done."""
    verb, since = lines[-1]["verb"], lines[-1]["since"]
    for line in reversed(lines):
        if (line["verb"], line["since"]) != (verb, since) or line["event"] == "table":
            return {}
        if line["event"] == "going":
            return line
    return {}


def _time(line: Line) -> float:
    return datetime.fromisoformat(line["time"]).timestamp()


def _ago(line: Line) -> float:
    return max(0.0, time.time() - _time(line))
