"""References: what the corpus must not hold, evaluation sets apart from blocklists and opt-outs.

An audit shows evaluation images side by side with what it found. Blocked images it only counts:
nobody should have to look at them.
"""

from collections.abc import Sequence, Set
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.settings import EvalSet

_UNKNOWN = {"phash_distance": 64, "pdq_distance": 256}
"""Distances of a reference that has no such hash: as far as can be."""


@dataclass(frozen=True)
class Avoided:
    """One line of the report: a set that the corpus must not hold for another reason."""

    name: str
    purpose: str
    found: int
    """Pairs that show one of its images."""
    near: int
    """Pairs that came near one, and nothing was confirmed."""
    removed: int
    left: int
    """Pairs found that the shards still hold."""


def evaluation(sets: Sequence[EvalSet]) -> list[EvalSet]:
    """The sets that are there to evaluate on."""
    return [evalset for evalset in sets if evalset.purpose == "evaluation"]


def of_evaluation(overlaps: pa.Table, sets: Sequence[EvalSet]) -> pa.Table:
    """The overlaps of evaluation sets, with a number for each distance."""
    rows = overlaps.filter(_is_of(overlaps, [evalset.name for evalset in evaluation(sets)]))
    for name, most in _UNKNOWN.items():
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, rows.schema.field(name), rows.column(name).fill_null(most))
    return rows


def avoided(
    overlaps: pa.Table, sets: Sequence[EvalSet], removed: Set[str], kept: Set[str]
) -> list[dict[str, Any]]:
    """A line for each set of another purpose, as plain values."""
    lines = []
    for evalset in sets:
        if evalset.purpose == "evaluation":
            continue
        rows = overlaps.filter(_is_of(overlaps, [evalset.name]))
        sure = rows.filter(pc.equal(rows.column("verdict"), "overlap"))
        found = set(sure.column("pair_id").to_pylist())
        near = set(rows.column("pair_id").to_pylist()) - found
        counts = len(found), len(near), len(found & removed), len(found & kept)
        lines.append(asdict(Avoided(evalset.name, evalset.purpose, *counts)))
    return lines


def _is_of(rows: pa.Table, names: list[str]) -> pa.Array:
    return pc.is_in(rows.column("source"), value_set=pa.array(names, pa.string()))
