"""Follow: every row that one pair left behind, table by table."""

import json
import re
from typing import Any

import pyarrow.compute as pc
from rich.console import Console

from jobs.run import Run
from pipeline import parquet_files
from pipeline.errors import BadInput
from pipeline.schemas import TABLES

_ALREADY_TOLD = {"pair_id", "id"}
_BY_NAME = {"fingerprints": "id"}


def rows_of(run: Run, pair_id: str) -> dict[str, list[dict[str, Any]] | None]:
    """The pair's rows in each table that has pairs; None where the table is missing."""
    found: dict[str, list[dict[str, Any]] | None] = {}
    for name, table in TABLES.items():
        column = _BY_NAME.get(name, "pair_id")
        if column not in table.schema.names:
            continue
        if run.find_manifest(name) is None:
            found[name] = None
            continue
        rows = parquet_files.dataset(run.files(name), table.schema)
        found[name] = rows.to_table(filter=pc.field(column) == pair_id).to_pylist()
    return found


def show(run: Run, pair_id: str) -> None:
    """Print the pair's story. Raises BadInput when no table knows the pair."""
    if not re.fullmatch(r"[0-9a-f]{32}", pair_id):
        raise BadInput(f"{pair_id!r} is not a pair_id: it has 32 hexadecimal digits")
    found = rows_of(run, pair_id)
    if not any(found.values()):
        raise BadInput(
            f"no table of {run.root} knows {pair_id}: pair_ids are in "
            f"{run.path('candidates')}/*.parquet"
        )
    console = Console(highlight=False, soft_wrap=True)
    told: dict[str, Any] = {}
    console.print(f"pair {pair_id}")
    for name, rows in found.items():
        console.print(f"{TABLES[name].folder:<16} {_state(run, name, rows)}", markup=False)
        for row in rows or []:
            for column, value in row.items():
                # A column that has been told is told again only when it changes.
                if column in _ALREADY_TOLD or value is None or told.get(column) == value:
                    continue
                told[column] = value
                console.print(f"    {column:<16} {_readable(run, column, value)}", markup=False)


def _state(run: Run, name: str, rows: list[dict[str, Any]] | None) -> str:
    if rows is None:
        return "not made yet"
    if rows:
        return "here" if len(rows) == 1 else f"{len(rows)} rows"
    manifest = run.manifest(name)
    if name in ("dropped", "overlaps", "audit"):
        return "nothing"
    reasons = ", ".join(manifest["dropped"])
    return f"not here (this table drops for: {reasons})" if reasons else "not here"


def _readable(run: Run, column: str, value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex()
    if column == "phash":
        return f"{value % 2**64:016x}"
    if column in ("query_ids", "drawn_for", "kept_for"):
        return f"{_named(run, value)}"
    return value if isinstance(value, str) else json.dumps(value)


def _named(run: Run, query_ids: list[int]) -> str:
    """Query ids with their queries."""
    queries = run.read_arrow("queries", ["query"]).column("query")
    return ", ".join(f"{query_id} ({queries[query_id]})" for query_id in query_ids)
