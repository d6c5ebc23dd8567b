"""images, fingerprints, overlaps, dropped, shards -> audit"""

import csv
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from jobs import pictures
from jobs.audit_page import write_page
from jobs.ledger import Ledger
from jobs.run import Run
from jobs.subject import EvalCount, Subject
from pipeline import audit
from pipeline.schemas import AUDIT
from pipeline.settings import AuditSettings, DedupSettings

_SMALL_SIDE = 32


@dataclass(frozen=True)
class Audited:
    """What was written: the overlaps, and what summary.json tells."""

    rows: pa.Table
    summary: dict[str, Any]


def main(run: Run) -> None:
    subject = _of_run(run)
    audited = write_audit(run.begin("audit"), subject, run.settings.audit, run.settings.dedup)
    sets = audited.summary["sets"]
    notes = {told["evalset"]: f"{told['overlapping']} of {told['images']}" for told in sets}
    run.finish("audit", Ledger(run.rows("overlaps"), audited.rows.num_rows, notes=notes))


def write_audit(
    folder: Path,
    subject: Subject,
    settings: AuditSettings,
    dedup: DedupSettings,
    captions: Sequence[dict[str, Any]] = (),
) -> Audited:
    """Write overlaps.parquet, removed.csv, summary.json and report.html into `folder`.

    `captions` are the overlaps of captions, one for each set of captions: its `name`, how many
    `captions` it has and how many were `found`, the `ratio` with its interval `low` and `high`,
    and some `examples`.
    """
    rows = audit.mark_removed(subject.overlaps, subject.removed)
    lines = audit.summary(rows, subject.counts, subject.images, subject.kept, settings, dedup)
    pq.write_table(rows, folder / "overlaps.parquet")
    _write_removed(folder / "removed.csv", rows)
    told = {
        "sets": audit.as_json(lines),
        "clip": audit.CLIP_REFERENCE,
        "captions": list(captions),
    }
    (folder / "summary.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
    write_page(folder, subject, rows, lines, settings)
    return Audited(rows.cast(AUDIT), told)


def _write_removed(path: Path, rows: pa.Table) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["pair_id", "source", "eval_id", "variant", "phash", "pdq"])
        columns = ("pair_id", "source", "eval_id", "variant", "phash_distance", "pdq_distance")
        for row in rows.to_pylist():
            if row["removed"] and row["verdict"] == "overlap":
                writer.writerow([row[name] for name in columns])


# -- a run as a subject --------------------------------------------------------------------


def _of_run(run: Run) -> Subject:
    overlaps = run.read_arrow("overlaps")
    near = overlaps.column("pair_id").unique()
    return Subject(
        name=run.root.name,
        images=run.rows("images"),
        evalsets=run.settings.evalsets,
        counts=_counts(run),
        overlaps=overlaps,
        removed=_those_of(run, "dropped", near),
        kept=_those_of(run, "shards", near),
        pictures=partial(pictures.downloaded, run),
        eval_ids=partial(_eval_ids, run),
    )


def _those_of(run: Run, table: str, pair_ids: pa.Array) -> set[str]:
    """Those of the pairs that a table holds."""
    files = [str(file) for file in run.files(table)]
    if not files:
        return set()
    is_wanted = pc.field("pair_id").isin(pair_ids)
    found = ds.dataset(files, format="parquet").to_table(columns=["pair_id"], filter=is_wanted)
    return set(found.column("pair_id").to_pylist())


def _counts(run: Run) -> dict[str, EvalCount]:
    """By evaluation set: its images, its hashes with every variant, and the flat and small ones."""
    rows = _of_evaluation(
        run, pc.field("source") != "corpus", ["source", "variant", "quality", "side"]
    )
    counts = {evalset.name: Counter[str]() for evalset in run.settings.evalsets}
    for row in rows.to_pylist():
        count = counts[row["source"]]
        count["hashes"] += 1
        if row["variant"] == "original":
            count["images"] += 1
            count["flat"] += row["quality"] < run.settings.dedup.min_quality
            count["small"] += row["side"] is not None and row["side"] <= _SMALL_SIDE
    keys = ("images", "hashes", "flat", "small")
    return {name: EvalCount(**{key: count[key] for key in keys}) for name, count in counts.items()}


def _eval_ids(run: Run, name: str) -> pa.Array:
    is_original = (pc.field("source") == name) & (pc.field("variant") == "original")
    return _of_evaluation(run, is_original, ["id"]).column("id").combine_chunks()


def _of_evaluation(run: Run, which: pc.Expression, columns: list[str]) -> pa.Table:
    files = [str(file) for file in run.files("fingerprints")]
    return ds.dataset(files, format="parquet").to_table(columns=columns, filter=which)
