"""References: what the corpus must not hold, evaluation sets apart from blocklists and opt-outs.

An audit shows evaluation images side by side with what it found. Blocked images it only counts:
nobody should have to look at them.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.settings import EvalSet

UNKNOWN = {"phash_distance": 64, "pdq_distance": 256}
"""Distances of a reference that has no such hash: as far as can be."""


@dataclass(frozen=True)
class Avoided:
    """One line of the report: a set that the corpus must not hold for another reason."""

    name: str
    purpose: str
    found: int
    """Pairs that show one of its images."""
    near: int
    """How often a pair came near one of its images, and that was not confirmed."""
    removed: int
    left: int
    """Pairs found that the shards still hold."""


def evaluation(sets: Sequence[EvalSet]) -> list[EvalSet]:
    """The sets that are there to evaluate on."""
    return [evalset for evalset in sets if evalset.purpose == "evaluation"]


def avoided(
    sure: pa.Table,
    near: Mapping[str, int],
    sets: Sequence[EvalSet],
    removed: Set[str],
    kept: Set[str],
) -> list[dict[str, Any]]:
    """A line for each set of another purpose, as plain values. `sure` shows images of theirs."""
    lines = []
    for evalset in sets:
        if evalset.purpose == "evaluation":
            continue
        of_set = sure.filter(is_of(sure, [evalset.name]))
        found = set(of_set.column("pair_id").to_pylist())
        counts = len(found), near.get(evalset.name, 0), len(found & removed), len(found & kept)
        lines.append(asdict(Avoided(evalset.name, evalset.purpose, *counts)))
    return lines


def is_of(rows: pa.Table, names: list[str]) -> pa.Array:
    """Which rows are of the sets with these names."""
    return pc.is_in(rows.column("source"), value_set=pa.array(names, pa.string()))
