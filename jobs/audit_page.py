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

from jobs import pictures
from jobs.report import render
from jobs.subject import Subject
from pipeline import decisions, evalsets
from pipeline.audit import references
from pipeline.audit.gathered import Gathered
from pipeline.audit.live import Live
from pipeline.decisions import Decisions
from pipeline.settings import AuditSettings, DedupSettings, EvalSet

_POINT = ("distance", "images", "expected_by_chance")


def shown(
    gathered: Gathered, subject: Subject, settings: AuditSettings
) -> dict[str, list[dict[str, Any]]]:
    """The pairs shown of each set: the page's are shared by the sets that have any."""
    names = [evalset.name for evalset in references.evaluation(subject.evalsets)]
    crowded = sum(gathered.images(name).num_rows > 0 for name in names)
    limit = _limit(crowded, settings)
    return {name: gathered.sample.shown(name, limit) for name in names}


def write_page(
    folder: Path,
    subject: Subject,
    shown: dict[str, list[dict[str, Any]]],
    live: Live,
    removed: set[str],
    told: dict[str, Any],
    taken: Decisions,
    known_by: str,
    settings: AuditSettings,
    dedup: DedupSettings,
) -> None:
    """Write report.html into `folder`: `told` is what summary.json says."""
    corpus = subject.pictures(sorted({row["pair_id"] for rows in shown.values() for row in rows}))
    lines = {line["evalset"]: line for line in told["sets"]}
    sets, data = [], []
    for evalset in references.evaluation(subject.evalsets):
        rows = shown[evalset.name]
        originals = _originals(evalset, {row["eval_id"] for row in rows})
        pairs = []
        for row in rows:
            pair = corpus.get(row["pair_id"])
            picture, caption = (pair.picture, pair.caption) if pair else (None, "")
            of_corpus = {
                "picture": picture,
                "caption": caption,
                "removed": row["pair_id"] in removed,
            }
            original = originals.get(row["eval_id"])
            pairs.append({**row, **of_corpus, "eval_picture": original})
        line = lines[evalset.name]
        curve = _curve(line, dedup)
        has_pictures = bool(rows) and evalsets.format_of(evalset) != "hashes"
        sets.append({"line": line, "pairs": pairs, "curve": curve, "has_pictures": has_pictures})
        data.append({"name": evalset.name, **live.of_set(evalset.name)})
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
        limit=_limit(sum(bool(rows) for rows in shown.values()), settings),
        settings=settings,
        dedup=dedup,
        script=script,
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data={
            "format": decisions.FORMAT,
            "digest": known_by,
            "threshold": dedup.pdq_distance,
            "taken": choices,
            # What a reader had begun with other decisions is not laid over these.
            "taken_digest": hashlib.sha256(json.dumps(choices).encode()).hexdigest(),
            "sets": data,
        },
    )
    (folder / "report.html").write_text(page, encoding="utf-8")


def _limit(crowded: int, settings: AuditSettings) -> int:
    return min(settings.max_thumbnails, settings.page_thumbnails // max(1, crowded))


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
