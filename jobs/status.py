"""Status: every table of a run, its rows, drops and seconds, and how far its making is."""

import json
import shutil
import sys
import time
from dataclasses import asdict
from datetime import datetime
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table as Grid
from rich.text import Text

from jobs.run import Run
from jobs.walk import STAGES, Stage, stale
from jobs.working import Working, working
from pipeline import storage
from pipeline.errors import MissingTable

_REFRESH_SECONDS = 2.0
_TRIES = 5


def show(run: Run) -> None:
    """Print the run's tables, and what is done now."""
    console, told = _console(), facts(run)
    console.print(_grid(told))
    for line in _lines(told):  # a line is never broken: it may hold a command
        console.print(line, markup=False, soft_wrap=True)


def show_json(run: Run) -> None:
    """Print the same for a program."""
    sys.stdout.write(json.dumps(facts(run), indent=1) + "\n")


def follow(run: Run) -> None:
    """Show it again and again, until nobody works on the run."""
    told = facts(run)
    with Live(_page(told), console=_console(), auto_refresh=False) as live:
        while _is_at_work(told):
            time.sleep(_REFRESH_SECONDS)
            told = facts(run)
            live.update(_page(told), refresh=True)


def facts(run: Run) -> dict[str, Any]:
    """What there is to tell: the tables, who works on them, and the verbs that are to come."""
    now = working(run.root)
    waiting = _waiting(run)
    tables = [_table(run, stage, name, waiting, now) for stage in STAGES for name in stage.writes]
    return {
        "run": str(run.root),
        "tables": tables,
        "working": None if now is None else asdict(now),
        "next": [stage.verb for stage in waiting],
    }


def _waiting(run: Run) -> list[Stage]:
    """The stages that are to come. A table may go while they are looked for."""
    for _ in range(_TRIES):
        try:
            return stale(run)
        except MissingTable:
            continue
    return stale(run)


def _table(
    run: Run, stage: Stage, table: str, waiting: list[Stage], now: Working | None
) -> dict[str, Any]:
    manifest = run.find_manifest(table)
    told: dict[str, Any] = {"table": table, "stage": stage.verb}
    is_made = now is not None and now.state == "running" and now.verb == stage.verb
    if manifest is not None:
        # Of a stage that is at work some tables are made, and others are those from before.
        is_ready = stage not in waiting or (is_made and _is_of_now(run, stage, manifest))
        state = "ready" if is_ready else "stale"
        keys = ("rows_in", "rows", "seconds", "dropped")
        return told | {"state": state} | {key: manifest[key] for key in keys}
    has_begun = storage.exists(run.path(table) / "_begun.json")
    state = "running" if is_made else "unfinished" if has_begun else "missing"
    return told | {"state": state}


def _is_of_now(run: Run, stage: Stage, manifest: dict[str, Any]) -> bool:
    try:
        return stage.made(run, [manifest])
    except MissingTable:  # what it reads is gone meanwhile
        return False


def _is_at_work(told: dict[str, Any]) -> bool:
    return told["working"] is not None and told["working"]["state"] == "running"


def _console() -> Console:
    # A pipe has no width: lines are not cut there.
    width = shutil.get_terminal_size((160, 50)).columns
    return Console(highlight=False, width=width if sys.stdout.isatty() else max(width, 100))


def _page(told: dict[str, Any]) -> Group:
    return Group(_grid(told), *(Text(line) for line in _lines(told)))


def _grid(told: dict[str, Any]) -> Grid:
    grid = Grid(title=Text(told["run"]), title_justify="left")
    for name, justify in (
        ("table", "left"),
        ("state", "left"),
        ("rows in", "right"),
        ("rows", "right"),
        ("seconds", "right"),
        ("dropped", "left"),
    ):
        grid.add_column(name, justify=justify)  # type: ignore[arg-type]
    for table in told["tables"]:
        if "rows" not in table:
            # Spark counts what is dropped in the tasks, and tells it when all of them are done.
            dropped = "told when it is done" if table["state"] == "running" else ""
            grid.add_row(table["table"], table["state"], "", "", "", dropped)
            continue
        grid.add_row(
            table["table"],
            table["state"],
            f"{table['rows_in']:,}",
            f"{table['rows']:,}",
            f"{table['seconds']:,.1f}",
            ", ".join(f"{why} {n:,}" for why, n in table["dropped"].items()),
        )
    return grid


def _lines(told: dict[str, Any]) -> list[str]:
    lines = _of_work(told["working"], told["run"]) if told["working"] else []
    return lines if _is_at_work(told) else [*lines, _next(told)]


def _next(told: dict[str, Any]) -> str:
    if told["next"]:
        return f"next: wit build --run {told['run']}   ({', '.join(told['next'])})"
    return f"all ready; the report is {told['run']}/report.html"


def _of_work(now: dict[str, Any], root: str) -> list[str]:
    """Lines of what is done, by whom, and whether it still is."""
    who = f"pid {now['pid']} on {now['host']}"
    what, since = now["verb"] or "between two stages", _clock(now["verb_since"] or now["since"])
    silent, goes_on = _long(now["silent_seconds"]), f"`wit build --run {root}` goes on"
    if now["state"] == "failed":
        return [f"failed: {what}, by {who}, {silent} ago: {now['error']}"]
    first = f"running: {what}, since {since}, by {who}"
    if now["state"] == "killed":
        first = f"killed: {what}, begun {since}, by {who}, which is gone: {goes_on}"
    if now["state"] == "silent":
        first = f"{what}, since {since}, by {who}: no sign of life for {silent}: killed? {goes_on}"
    lines = [first]
    if now["step"] is not None:
        lines.append(f"  {now['step']}{_far(now)}")
    if now["state"] == "running":
        lines.append(f"  last sign of life {silent} ago{_ui(now['ui'])}")
    return lines


def _ui(address: str | None) -> str:
    return f"; Spark's pages: {address}" if address else ""


def _far(now: dict[str, Any]) -> str:
    if not now["total"]:
        return ""
    rate = now["per_second"]
    pace = f"{rate:,.1f}/s" if rate >= 0.1 or not rate else f"{60 * rate:,.1f}/min"
    told = [f": {now['done']:,} of {now['total']:,} {now['unit']}", pace]
    if now["seconds_left"] is not None:
        told.append(f"about {_long(now['seconds_left'])} left")
    if now["failed"]:
        told.append(f"{now['failed']:,} failed and tried again")
    if now["executors"]:
        told.append(f"{now['executors']:,} executor{'s' if now['executors'] > 1 else ''}")
    return ", ".join(told)


def _clock(stamp: str) -> str:
    return f"{datetime.fromisoformat(stamp).astimezone():%Y-%m-%d %H:%M:%S}"


def _long(seconds: float) -> str:
    """A duration, as a person says it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 1e9 else "ever"
