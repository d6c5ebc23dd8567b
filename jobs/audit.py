"""images, fingerprints, overlaps, dropped, shards -> audit"""

import csv
import json
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from jobs import audit_captions, pictures
from jobs.audit_page import write_page
from jobs.ledger import Ledger
from jobs.run import Run
from jobs.subject import EvalCount, Subject
from pipeline import audit, decisions
from pipeline.audit import SMALL_SIDE, measured, predictions, references, shift
from pipeline.decisions import Applied, Decisions
from pipeline.settings import AuditSettings, DedupSettings


@dataclass(frozen=True)
class Audited:
    """What was written: the overlaps, and what summary.json tells."""

    rows: pa.Table
    summary: dict[str, Any]


def main(run: Run) -> None:
    subject, folder, settings = _of_run(run), run.begin("audit"), run.settings
    captions = audit_captions.of_run(run, folder)
    audited = write_audit(folder, subject, settings.audit, settings.dedup, captions)
    sets = audited.summary["sets"]
    notes = {told["evalset"]: f"{told['overlapping']} of {told['images']}" for told in sets}
    others = run.rows("overlaps") - audited.rows.num_rows
    dropped = {"of no evaluation set": others} if others else {}
    run.finish("audit", Ledger(run.rows("overlaps"), audited.rows.num_rows, dropped, notes=notes))


def write_audit(
    folder: Path,
    subject: Subject,
    settings: AuditSettings,
    dedup: DedupSettings,
    captions: Sequence[dict[str, Any]] = (),
) -> Audited:
    """Write overlaps.parquet, removed.csv, overlapping/, summary.json and report.html.

    `captions` are the overlaps of captions, one for each set of captions: its `name`, how many
    `captions` it has and how many were `found`, the `ratio` with its interval `low` and `high`,
    and some `examples`.
    """
    taken = _decisions(settings)
    applied = decisions.apply(subject.overlaps, taken)
    rows = audit.marked(applied.rows, subject.removed)
    lines = audit.summary(rows, subject.counts, subject.images, subject.kept, settings, dedup)
    told = {
        "corpus": {"name": subject.name, "images": subject.images, "scan": subject.scan},
        "sets": audit.as_json(lines),
        "over_sets": audit.over_sets(lines),
        "avoided": subject.avoided,
        "clip": measured.CLIP,
        "recall": {"source": measured.RECALL_SOURCE, "rows": [asdict(r) for r in measured.RECALL]},
        "decisions": _told_of_decisions(applied, taken, rows, subject, settings),
        "predictions": _told_of_predictions(rows, subject, settings),
        "captions": list(captions),
    }
    pq.write_table(rows, folder / "overlaps.parquet")
    _write_lists(folder, rows, subject)
    text = json.dumps(told, indent=1, allow_nan=False)
    (folder / "summary.json").write_text(text, encoding="utf-8")
    write_page(folder, subject, rows, told, taken, settings, dedup)
    return Audited(rows, told)


def _decisions(settings: AuditSettings) -> Decisions:
    if settings.decisions is None:
        return Decisions(audit="", thresholds={}, pairs={})
    return decisions.read(settings.decisions)


def _told_of_decisions(
    applied: Applied, taken: Decisions, rows: pa.Table, subject: Subject, settings: AuditSettings
) -> dict[str, Any] | None:
    """What a decisions file changed, and what of it the corpus does not know yet."""
    if settings.decisions is None:
        return None
    decided = rows.filter(pc.is_valid(rows.column("decided")))
    is_sure = pc.field("verdict") == "overlap"
    accepted = set(decided.filter(is_sure).column("pair_id").to_pylist())
    rejected = set(decided.filter(~is_sure).column("pair_id").to_pylist())
    # A rejected pair may overlap another image as well, and is taken out for that.
    rejected -= set(rows.filter(is_sure).column("pair_id").to_pylist())
    in_shards, in_vain = accepted & subject.kept, rejected & subject.removed
    is_done = not in_vain and not in_shards
    command = subject.take_decisions.replace("FILE", shlex.quote(settings.decisions))
    return {
        "file": settings.decisions,
        "sets": dict(taken.thresholds),
        "pairs": len(taken.pairs),
        "decided": decided.num_rows,
        "changed": applied.changed,
        "unknown_pairs": applied.unknown_pairs,
        "unknown_sets": list(applied.unknown_sets),
        "is_of_these_overlaps": taken.audit == decisions.digest(subject.overlaps),
        "accepted_in_shards": len(in_shards),
        "rejected_removed": len(in_vain),
        "next": "" if is_done else command,
    }


def _told_of_predictions(
    rows: pa.Table, subject: Subject, settings: AuditSettings
) -> dict[str, Any] | None:
    """Accuracy on all, on the clean and on the overlapping images, by model and set."""
    if not settings.predictions:
        return None
    names = {s.name: set(subject.eval_ids(s.name).to_pylist()) for s in subject.evalsets}
    read = predictions.read(settings.predictions, names)
    seen = rows
    if settings.trained_on == "shards":
        kept = pa.array(sorted(subject.kept), pa.string())
        seen = rows.filter(pc.is_in(rows.column("pair_id"), value_set=kept))
    overlapping = {name: set(audit.overlapping(seen, name)) for name in names}
    answers, missing = {}, []
    for (model, name), right in read.right.items():
        overlaps = np.array([eval_id in overlapping[name] for eval_id in right], np.bool_)
        answers[model, name] = np.array(list(right.values()), np.bool_), overlaps
        if len(right) < len(names[name]):
            missing.append({"model": model, "set": name, "images": len(names[name]) - len(right)})
    told = shift.shifts(answers, settings)
    return {
        "files": list(settings.predictions),
        "trained_on": settings.trained_on,
        "rows": read.rows,
        "refused": [
            {"reason": why, "rows": count, "examples": read.examples[why]}
            for why, count in sorted(read.refused.items())
        ],
        "missing": missing,
        **shift.over_all(told, measured.CLIP["shifted_by"]),
        "shifts": [asdict(line) for line in told],
    }


def _write_lists(folder: Path, rows: pa.Table, subject: Subject) -> None:
    """The removed pairs, and by set the images that overlap, for those who score the clean."""
    columns = ["pair_id", "source", "eval_id", "variant", "phash_distance", "pdq_distance"]
    is_sure = pc.equal(rows.column("verdict"), "overlap")
    gone = rows.filter(pc.and_(rows.column("removed"), is_sure)).select(columns)
    with (folder / "removed.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow([name.removesuffix("_distance") for name in columns])
        writer.writerows(row.values() for row in gone.to_pylist())
    (folder / "overlapping").mkdir()
    for evalset in subject.evalsets:
        with (folder / "overlapping" / f"{evalset.name}.txt").open("w", encoding="utf-8") as stream:
            stream.writelines(f"{_line(name)}\n" for name in audit.overlapping(rows, evalset.name))


def _line(name: str) -> str:
    """A name on one line; quoted as JSON where it would be several."""
    return name if name.isprintable() and not name.startswith('"') else json.dumps(name)


# -- a run as a subject --------------------------------------------------------------------


def _of_run(run: Run) -> Subject:
    overlaps = run.read_arrow("overlaps")
    near = overlaps.column("pair_id").unique()
    sets = run.settings.evalsets
    removed, kept = _those_of(run, "dropped", near), _those_of(run, "shards", near)
    return Subject(
        name=run.root.name,
        images=run.rows("images"),
        evalsets=references.evaluation(sets),
        counts=_counts(run),
        overlaps=references.of_evaluation(overlaps, sets),
        removed=removed,
        kept=kept,
        avoided=references.avoided(overlaps, sets, removed, kept),
        pictures=partial(pictures.downloaded, run),
        eval_ids=partial(_eval_ids, run),
        take_decisions=f"wit build --run {shlex.quote(str(run.root))} "
        "--set dedup.decisions=FILE --update",
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
    columns = ["source", "variant", "quality", "side"]
    hashes = _of_evaluation(run, pc.field("source") != "corpus", columns)
    images = hashes.filter(pc.field("variant") == "original")
    flat = images.filter(pc.field("quality") < run.settings.dedup.min_quality)
    small = images.filter(pc.field("side") <= SMALL_SIDE)
    counted = [_by_set(rows) for rows in (images, hashes, flat, small)]
    names = [evalset.name for evalset in references.evaluation(run.settings.evalsets)]
    return {name: EvalCount(*(count[name] for count in counted)) for name in names}


def _by_set(rows: pa.Table) -> Counter[str]:
    counted = pc.value_counts(rows.column("source")).to_pylist()
    return Counter({count["values"]: count["counts"] for count in counted})


def _eval_ids(run: Run, name: str) -> pa.Array:
    is_original = (pc.field("source") == name) & (pc.field("variant") == "original")
    return _of_evaluation(run, is_original, ["id"]).column("id").combine_chunks()


def _of_evaluation(run: Run, which: pc.Expression, columns: list[str]) -> pa.Table:
    files = [str(file) for file in run.files("fingerprints")]
    return ds.dataset(files, format="parquet").to_table(columns=columns, filter=which)
