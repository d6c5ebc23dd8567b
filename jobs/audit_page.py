"""The audit's page: each evaluation set's overlaps, and the pictures side by side."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from jobs import pictures
from jobs.report import render
from jobs.subject import Subject
from pipeline import audit, evalsets
from pipeline.settings import AuditSettings


def write_page(
    folder: Path,
    subject: Subject,
    audited: pa.Table,
    lines: list[audit.Overlap],
    settings: AuditSettings,
) -> None:
    """Write report.html into `folder`."""
    limit = settings.max_thumbnails
    shown = {line.evalset: _shown(audited, line.evalset, limit) for line in lines}
    wanted = {row["pair_id"] for rows in shown.values() for row in rows}
    corpus = subject.pictures(sorted(wanted))
    sets = []
    for evalset in subject.evalsets:
        rows = shown[evalset.name]
        names = {row["eval_id"] for row in rows}
        originals = {
            image.name: pictures.thumbnail(image.data)
            for image in (evalsets.images(evalset, evalset.split) if names else ())
            if image.name in names
        }
        line = next(line for line in lines if line.evalset == evalset.name)
        pairs = [
            {
                **row,
                "eval_picture": originals.get(row["eval_id"]),
                **corpus[row["pair_id"]]._asdict(),
            }
            for row in rows
        ]
        sets.append({"line": line, "pairs": pairs})
    page = render(
        "audit.html.j2",
        root=subject.name,
        sets=sets,
        clip=audit.CLIP_REFERENCE,
        shown=limit,
        confidence=settings.confidence,
    )
    (folder / "report.html").write_text(page, encoding="utf-8")


def _shown(audited: pa.Table, name: str, limit: int) -> list[dict[str, Any]]:
    """Some overlaps of a set, spread evenly over their distances."""
    rows = [row for row in audited.to_pylist() if row["source"] == name]
    rows.sort(key=lambda row: (row["pdq_distance"], row["phash_distance"], row["pair_id"]))
    if len(rows) <= limit:
        return rows
    return [rows[i * len(rows) // limit] for i in range(limit)]
