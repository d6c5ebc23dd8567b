"""Coverage summary: how the queries fit the captions, and what the caps did to the crowded ones.

reads   counts, draws, reached, coverage, as far as there are; queries; the manifest of candidates
writes  the values of the report's section on coverage
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from jobs import pictures
from jobs.query_summary import places
from jobs.run import Run

_CROWDED = 12
_NONE_SHOWN = 4
"""Queries of each source that no caption holds: so many from the top, and as many from the rest."""
_INPUTS_SHOWN = 20
_STEPS = ("matched", "drawn", "arrived", "kept")

Longs = npt.NDArray[np.int64]


def summary(run: Run) -> dict[str, Any]:
    """The values of the section, with the steps that the run has made so far."""
    queries = run.read_arrow("queries", ["query", "source"])
    steps = _steps(run, queries.num_rows)
    matched = steps["matched"]
    last, in_the_end = list(steps.items())[-1]
    shown = [name for name in steps if name in ("matched", "drawn", last)]
    cap = run.settings.balance.max_pairs_per_query
    is_crowded = matched > cap
    total = max(int(matched.sum()), 1)
    crowded = np.argsort(-matched, kind="stable")[:_CROWDED]
    candidates = run.find_manifest("candidates")  # they may be about to be made once more
    told = {} if candidates is None else candidates["notes"].get("sources", {})
    inputs = sorted((_input(*source) for source in told.items()), key=lambda line: -line["links"])
    return {
        "cap": cap,
        "semantics": run.settings.balance.semantics,
        "queries": len(matched),
        "with_pairs": int((matched > 0).sum()),
        "over_cap": int(is_crowded.sum()),
        "matches": int(matched.sum()),
        "matches_over_cap": int(matched[is_crowded].sum()) / total,
        "steps": list(steps),
        "picture": pictures.coverage({name: steps[name] for name in shown}, cap),
        "crowded": [
            {"query": queries["query"][int(place)].as_py(), "counts": _at(steps, place)}
            for place in crowded
            if matched[place]
        ],
        "sources": [_source(name, queries, matched, in_the_end) for name in _sources_of(queries)],
        "inputs": inputs[:_INPUTS_SHOWN],
        "more_inputs": len(inputs[_INPUTS_SHOWN:]),
    }


def _steps(run: Run, queries: int) -> dict[str, Longs]:
    """The pairs of each query at each step; "kept" comes last, when it is there."""
    steps: dict[str, Longs] = {"matched": run.read_arrow("counts")["pairs"].to_numpy()}
    for table in ("draws", "reached"):  # before the download, and with its further rounds
        if run.find_manifest(table) is not None:
            steps["drawn"] = run.read_arrow(table, ["drawn"])["drawn"].to_numpy()
    if run.find_manifest("coverage") is not None:
        coverage = run.read_arrow("coverage")
        for name in _STEPS[2:]:
            steps[name] = np.zeros(queries, np.int64)
            steps[name][coverage["query_id"].to_numpy()] = coverage[name].to_numpy()
    return steps


def _input(name: str, told: dict[str, int]) -> dict[str, Any]:
    """What one input gave: its links, and what became of them before equal pairs met."""
    dropped = {reason: count for reason, count in told.items() if reason not in ("links", "fit")}
    ordered = sorted(dropped.items(), key=lambda pair: -pair[1])
    return {"name": name, "links": told["links"], "fit": told.get("fit", 0), "dropped": ordered}


def _at(steps: dict[str, Longs], place: int) -> list[int]:
    return [int(counts[place]) for counts in steps.values()]


def _sources_of(queries: pa.Table) -> list[str]:
    names: list[str] = pc.unique(queries["source"]).to_pylist()
    return names


def _source(name: str, queries: pa.Table, matched: Longs, in_the_end: Longs) -> dict[str, Any]:
    """What the queries of one source give: to the matches, and to the pool in the end.

    A pair that is there for three queries counts three times.
    """
    own = np.flatnonzero(pc.equal(queries["source"], name).to_numpy(zero_copy_only=False))
    none = own[matched[own] == 0]
    shown = none[places(len(none), _NONE_SHOWN)]
    return {
        "name": name,
        "queries": len(own),
        "with_pairs": len(own) - len(none),
        "matches": int(matched[own].sum()),
        "share_of_matches": int(matched[own].sum()) / max(int(matched.sum()), 1),
        "pairs": int(in_the_end[own].sum()),
        "share_of_pairs": int(in_the_end[own].sum()) / max(int(in_the_end.sum()), 1),
        "none": queries["query"].take(pa.array(shown)).to_pylist(),
    }
