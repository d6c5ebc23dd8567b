"""Status: every table of a run, its rows, drops and seconds, and what is missing or stale."""

import shutil
import sys

from rich.console import Console
from rich.table import Table as Grid

from jobs.run import Run
from jobs.walk import STAGES, stale
from pipeline import storage


def show(run: Run) -> None:
    """Print the run's tables."""
    # A pipe has no width: lines are not cut there.
    width = shutil.get_terminal_size((160, 50)).columns
    console = Console(highlight=False, width=width if sys.stdout.isatty() else max(width, 100))
    grid = Grid(title=str(run.root), title_justify="left")
    for name, justify in (
        ("table", "left"),
        ("state", "left"),
        ("rows in", "right"),
        ("rows", "right"),
        ("seconds", "right"),
        ("dropped", "left"),
    ):
        grid.add_column(name, justify=justify)  # type: ignore[arg-type]
    waiting = stale(run)
    for stage in STAGES:
        for table in stage.writes:
            manifest = run.find_manifest(table)
            if manifest is None:
                has_begun = storage.exists(run.path(table) / "_begun.json")
                grid.add_row(table, "unfinished" if has_begun else "missing", "", "", "", "")
                continue
            dropped = ", ".join(f"{why} {n:,}" for why, n in manifest["dropped"].items())
            grid.add_row(
                table,
                "stale" if stage in waiting else "ready",
                f"{manifest['rows_in']:,}",
                f"{manifest['rows']:,}",
                f"{manifest['seconds']:,.1f}",
                dropped,
            )
    console.print(grid)
    if waiting:
        verbs = ", ".join(stage.verb for stage in waiting)
        console.print(f"next: wit build --run {run.root}   ({verbs})")
    else:
        console.print(f"all ready; the report is {run.root / 'report.html'}")
