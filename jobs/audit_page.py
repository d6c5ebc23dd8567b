"""The audit's page: each evaluation set's overlaps, the pictures side by side, and decisions.

One file that asks for nothing else: its only script is known to the browser by its digest, so
that no caption and no name can bring another.
"""

import base64
import hashlib
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs import pictures
from jobs.report import render
from jobs.subject import Subject
from pipeline import audit, decisions, evalsets
from pipeline.decisions import BY_HAND, Decisions
from pipeline.settings import AuditSettings, DedupSettings, EvalSet

_PDQ_BITS = 256
_BIN = 8
"""Bits of PDQ: pairs are shown from every bin of this width."""

_POINT = ("distance", "images", "expected_by_chance")
_LIVE = ("pdq_distance", "before")

Row = dict[str, Any]


def write_page(
    folder: Path,
    subject: Subject,
    audited: pa.Table,
    told: dict[str, Any],
    taken: Decisions,
    settings: AuditSettings,
    dedup: DedupSettings,
) -> None:
    """Write report.html into `folder`: `told` is what summary.json says."""
    # Both tables are in the order of their keys.
    before = audit.in_order(subject.overlaps).column("verdict")
    audited = audited.append_column("before", before)
    by_set = {s.name: audited.filter(pc.field("source") == s.name) for s in subject.evalsets}
    limit = _limit(by_set, settings)
    shown = {name: _shown(rows, limit) for name, rows in by_set.items()}
    corpus = subject.pictures(sorted({row["pair_id"] for rows in shown.values() for row in rows}))
    lines = {line["evalset"]: line for line in told["sets"]}
    sets, data = [], []
    for evalset in subject.evalsets:
        rows = shown[evalset.name]
        originals = _originals(evalset, {row["eval_id"] for row in rows})
        pairs = []
        for row in rows:
            pair = corpus.get(row["pair_id"])
            picture, caption = (pair.picture, pair.caption) if pair else (None, "")
            original = originals.get(row["eval_id"])
            pairs.append({**row, "eval_picture": original, "picture": picture, "caption": caption})
        line = lines[evalset.name]
        sets.append({"line": line, "pairs": pairs, "curve": _curve(line, dedup)})
        data.append({"name": evalset.name, **_live(by_set[evalset.name], rows)})
    script = (files("jobs") / "templates" / "audit.js").read_text(encoding="utf-8")
    choices = {
        "sets": sorted(taken.thresholds.items()),
        "pairs": [[*key, is_same] for key, is_same in sorted(taken.pairs.items())],
    }
    page = render(
        "audit.html.j2",
        told=told,
        sets=sets,
        sets_by_overlap=sorted(told["sets"], key=lambda line: (-line["ratio"], line["evalset"])),
        limit=limit,
        settings=settings,
        dedup=dedup,
        script=script,
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data={
            "format": decisions.FORMAT,
            "digest": decisions.digest(subject.overlaps),
            "threshold": dedup.pdq_distance,
            "taken": choices,
            # What a reader had begun with other decisions is not laid over these.
            "taken_digest": hashlib.sha256(json.dumps(choices).encode()).hexdigest(),
            "sets": data,
        },
    )
    (folder / "report.html").write_text(page, encoding="utf-8")


def _limit(by_set: dict[str, pa.Table], settings: AuditSettings) -> int:
    """Pairs shown of each set: the page's are shared by the sets that have any."""
    crowded: int = sum(rows.num_rows > 0 for rows in by_set.values())
    return min(settings.max_thumbnails, settings.page_thumbnails // max(1, crowded))


def _shown(rows: pa.Table, limit: int) -> list[Row]:
    """Some overlaps of a set, from every distance alike: one of each bin in turn."""
    if not limit or not rows.num_rows:
        return []
    # In a bin by the pair's name, which is a hash; it is the same sample in every run.
    order = pc.sort_indices(rows, [("pair_id", "ascending"), ("eval_id", "ascending")])
    rows = rows.take(order)
    bins = rows.column("pdq_distance").to_numpy() // _BIN
    turns = np.zeros(len(bins), np.int64)
    for one in np.unique(bins):
        places = np.flatnonzero(bins == one)
        turns[places] = np.arange(len(places))
    chosen = np.lexsort((bins, turns))[:limit]
    found: list[Row] = rows.take(pa.array(chosen)).to_pylist()
    return sorted(found, key=lambda row: (row["pdq_distance"], row["phash_distance"]))


def _originals(evalset: EvalSet, names: set[str]) -> dict[str, str | None]:
    """Thumbnails of images of a set, by name; of a list of hashes there are none."""
    if not names or evalsets.format_of(evalset) == "hashes":
        return {}
    found = evalsets.find(evalset, names)
    return {image.name: pictures.thumbnail(image.data) for image in found}


def _curve(line: dict[str, Any], dedup: DedupSettings) -> str | None:
    if not line["curve"][-1]["images"]:
        return None
    phash, pdq = (
        [[point[column] for point in line[name]] for column in _POINT]
        for name in ("curve", "pdq_curve")
    )
    return pictures.threshold_curves(
        [
            pictures.Curve("pHash", phash[0], phash[1], phash[2], threshold=None),
            pictures.Curve("PDQ", pdq[0], pdq[1], pdq[2], threshold=dedup.pdq_distance),
        ]
    )


# -- what the page counts while its reader decides -----------------------------------------


def _live(rows: pa.Table, shown: list[Row]) -> dict[str, Any]:
    """What decides the set's count: the shown pairs one by one, and what of the others depends
    on a threshold. `before` is a verdict without decisions.

    An image is told by whether a pair that is not shown makes it an overlap `now`, and by the
    nearest of those that a threshold would: `within` sums them up for the images that no shown
    pair is of, by threshold.
    """
    encoded = rows.column("eval_id").combine_chunks().dictionary_encode()
    image, names = encoded.indices.to_numpy(), encoded.dictionary.to_pylist()
    before = np.array(rows.column("before").to_pylist(), dtype=object)
    verdict = np.array(rows.column("verdict").to_pylist(), dtype=object)
    by_hand = pc.fill_null(pc.equal(rows.column("decided"), BY_HAND), fill_value=False)
    is_by_hand = by_hand.to_numpy(zero_copy_only=False).astype(bool)
    is_other = ~_are(rows, shown)
    is_open = is_other & ~is_by_hand
    now, near = np.zeros(len(names), np.bool_), np.full(len(names), _PDQ_BITS + 1)
    now[image[is_open & (before == "overlap")]] = True
    has_hash = is_open & (before != "undecidable")
    np.minimum.at(near, image[has_hash], rows.column("pdq_distance").to_numpy()[has_hash])
    accepted = image[is_other & is_by_hand & (verdict == "overlap")]
    now[accepted], near[accepted] = True, -1
    place = {name: number for number, name in enumerate(names)}
    of_shown = list(dict.fromkeys(row["eval_id"] for row in shown))
    places = {name: number for number, name in enumerate(of_shown)}
    is_apart = np.isin(np.arange(len(names)), [place[name] for name in of_shown])
    histogram = np.bincount(near[~is_apart] + 1, minlength=_PDQ_BITS + 3)
    return {
        "now": int(now[~is_apart].sum()),
        "within": histogram.cumsum()[1 : _PDQ_BITS + 2].tolist(),
        "images": [[bool(now[place[n]]), int(near[place[n]])] for n in of_shown],
        "pairs": [
            [row["pair_id"], row["eval_id"], places[row["eval_id"]], *[row[c] for c in _LIVE]]
            for row in shown
        ],
    }


def _are(rows: pa.Table, shown: list[Row]) -> NDArray[np.bool_]:
    """Which of the rows are shown."""
    pair_ids = pa.array(sorted({row["pair_id"] for row in shown}), pa.string())
    found = pc.is_in(rows.column("pair_id"), value_set=pair_ids).to_numpy(zero_copy_only=False)
    is_shown: NDArray[np.bool_] = found.astype(np.bool_)
    keys = {(row["pair_id"], row["eval_id"]) for row in shown}
    for place in np.flatnonzero(is_shown).tolist():
        key = (rows.column("pair_id")[place].as_py(), rows.column("eval_id")[place].as_py())
        is_shown[place] = key in keys
    return is_shown
