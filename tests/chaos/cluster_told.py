"""Told: what a finished run holds, in a form in which two runs can be compared.

Nothing that the run tells of itself is believed alone: rows are read from the files and pairs are
counted in the tars.
"""

import hashlib
import json
import re
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from jobs.run import MANIFEST
from pipeline.schemas import TABLES

_OF_SPARK = re.compile(r"(part-\d+)-[0-9a-f-]{36}.*")
_SUMMARY = "summary.json"
_WITH_PAIRS = ("candidates", "matched", "drawn", "deduped", "balanced", "shards")
"""Tables with one row for a pair."""


class Told(NamedTuple):
    """A finished run."""

    facts: dict[str, Any]
    """By the name of a table or of a file: rows and digests."""
    pairs: dict[str, Counter[str]]
    """How often each pair is in a table, and in the raw and the final tars."""


def told(run: Path, tables: tuple[str, ...]) -> Told:
    """What the run in the folder `run` holds in `tables`."""
    facts: dict[str, Any] = {}
    pairs: dict[str, Counter[str]] = {}
    for table in tables:
        folder = run / TABLES[table].folder
        manifest = json.loads((folder / MANIFEST).read_text())
        names = ("rows_in", "rows", "dropped", "content", "digest")
        facts[f"{table}: manifest"] = {name: manifest[name] for name in names}
        facts[f"{table}: rows"], found = _rows(folder)
        if table in _WITH_PAIRS:
            pairs[table] = found
        facts |= {f"{table}: {name}": fact for name, fact in _files(folder, table)}
    for table, name in (("images", "raw tars"), ("shards", "final tars")):
        folder = run / TABLES[table].folder
        pairs[name] = Counter(key for tar in sorted(folder.glob("*.tar")) for key in _keys(tar))
    return Told(facts, pairs)


def lost_and_doubled(whole: Told, mine: Told) -> tuple[Counter[str], Counter[str]]:
    """Pairs of the undisturbed run that are missing, and pairs that are there twice, by place."""
    lost, doubled = Counter[str](), Counter[str]()
    for place, expected in whole.pairs.items():
        found = mine.pairs[place]
        lost[place] += len(expected.keys() - found.keys())
        doubled[place] += sum(found.values()) - len(found)
    # What arrived is in a shard, or there is a reason why it is not.
    rows = mine.facts
    arrived, kept = rows["images: manifest"]["rows"], rows["shards: manifest"]["rows"]
    dropped = [rows[f"{table}: manifest"]["dropped"] for table in ("deduped", "balanced")]
    unaccounted = arrived - kept - sum(sum(reasons.values()) for reasons in dropped)
    lost["accounts"] += max(0, unaccounted)
    doubled["accounts"] += max(0, -unaccounted)
    return +lost, +doubled


def differences(whole: Told, mine: Told) -> list[str]:
    """One line for each fact that differs."""
    names = sorted(whole.facts.keys() | mine.facts.keys())
    return [
        f"{name}: {whole.facts.get(name)} became {mine.facts.get(name)}"
        for name in names
        if whole.facts.get(name) != mine.facts.get(name)
    ]


def _rows(folder: Path) -> tuple[dict[str, Any], Counter[str]]:
    """How many rows all parquet files have and their digest in whatever order; their pairs."""
    lines: list[str] = []
    pairs = Counter[str]()
    for file in sorted(folder.glob("*.parquet")):
        for row in pq.ParquetFile(file).read().to_pylist():
            lines.append(json.dumps(row, sort_keys=True, default=_text))
            pairs[str(row.get("pair_id"))] += 1
    digest = hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
    return {"rows": len(lines), "digest": digest}, pairs


def _text(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _files(folder: Path, table: str) -> list[tuple[str, Any]]:
    """Every file but Spark's; what is exact to the byte has a digest, others only a name."""
    found: list[tuple[str, Any]] = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(file.relative_to(folder))
        if name == MANIFEST or _OF_SPARK.fullmatch(name):
            continue
        if name.endswith("_stats.json"):
            found.append((name, json.loads(file.read_text()) | {"pace": None}))
        elif name == _SUMMARY:
            summary = json.loads(file.read_text())
            del summary["corpus"]["name"]  # of the folder
            found.append((name, summary))
        elif table in ("images", "shards") or file.suffix == ".csv":
            found.append((name, hashlib.sha256(file.read_bytes()).hexdigest()))
        else:
            found.append((name, "is there"))
    return found


def _keys(tar: Path) -> list[str]:
    with tarfile.open(tar) as file:
        return [name.removesuffix(".jpg") for name in file.getnames() if name.endswith(".jpg")]
