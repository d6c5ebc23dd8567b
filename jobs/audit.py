"""images, fingerprints, overlaps, dropped, shards -> audit"""

import csv
import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs import audit_captions, audit_page, pictures
from jobs.ledger import Ledger
from jobs.run import Run
from jobs.stamps import code_version
from jobs.subject import Subject, batches, some
from pipeline import audit, decisions
from pipeline.audit import counted, measured, predictions, references, shift
from pipeline.audit.gathered import Gathered, decided
from pipeline.audit.live import Live
from pipeline.decisions import Decisions
from pipeline.schemas import AUDIT, OVERLAPS
from pipeline.settings import AuditSettings, DedupSettings, FingerprintSettings

_GROUP_ROWS = 1 << 18


@dataclass(frozen=True)
class Audited:
    """What was written: how many overlaps, and what summary.json tells."""

    rows: int
    sure: pa.Table
    """Those with the verdict `overlap`, of every set, blocklists and opt-outs too."""
    summary: dict[str, Any]


def main(run: Run) -> None:
    run.begin("audit")
    subject, folder, settings = _of_run(run), run.folder("audit"), run.settings
    captions = audit_captions.of_run(run, folder)
    audited = write_audit(folder, subject, settings.audit, settings.dedup, captions)
    sets = audited.summary["sets"]
    notes = {told["evalset"]: f"{told['overlapping']} of {told['images']}" for told in sets}
    others = run.rows("overlaps") - audited.rows
    dropped = {"of no evaluation set": others} if others else {}
    run.finish("audit", Ledger(run.rows("overlaps"), audited.rows, dropped, notes=notes))


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
    gathered = Gathered(subject.evalsets, taken, settings.max_thumbnails)
    for batch in subject.overlaps():
        gathered.add(batch)
    shown = audit_page.shown(gathered, subject, settings)
    sure, avoided = gathered.sure(), gathered.avoided()
    asked = {row["pair_id"] for rows in shown.values() for row in rows} | gathered.overturned
    asked.update(*[table.column("pair_id").to_pylist() for table in (sure, avoided)])
    pair_ids = pa.array(sorted(asked), pa.string())
    removed, kept = subject.removed(pair_ids), subject.kept(pair_ids)
    lines = audit.summary(gathered, subject.counts, subject.images, removed, kept, settings, dedup)
    told = {
        "corpus": {"name": subject.name, "images": subject.images, "scan": subject.scan},
        "made": _told_of_making(subject, dedup),
        "sets": audit.as_json(lines),
        "over_sets": audit.over_sets(lines),
        "avoided": references.avoided(avoided, gathered.near, subject.evalsets, removed, kept),
        "clip": measured.CLIP,
        "recall": {"source": measured.RECALL_SOURCE, "rows": [asdict(r) for r in measured.RECALL]},
        "decisions": _told_of_decisions(gathered, taken, removed, kept, subject, settings),
        "predictions": _told_of_predictions(sure, kept, subject, settings),
        "captions": list(captions),
    }
    live = Live(shown)
    _write_overlaps(folder / "overlaps.parquet", subject, taken, removed, live)
    _write_lists(folder, sure, removed, subject)
    text = json.dumps(told, indent=1, allow_nan=False)
    (folder / "summary.json").write_text(text, encoding="utf-8")
    known_by = gathered.digest.hexdigest()
    audit_page.write_page(
        folder, subject, shown, live, removed, told, taken, known_by, settings, dedup
    )
    names = [name for name in OVERLAPS.names if name in sure.column_names]
    every = pa.concat_tables([sure.select(names), avoided.select(names)])
    return Audited(gathered.rows, every, told)


def _write_overlaps(
    path: Path, subject: Subject, taken: Decisions, removed: set[str], live: Live
) -> None:
    """Every overlap of an evaluation set, in the order in which they come; `live` has them too."""
    names = [evalset.name for evalset in references.evaluation(subject.evalsets)]
    gone = pa.array(sorted(removed), pa.string())

    def parts() -> Iterator[pa.Table]:
        for batch in subject.overlaps():
            rows = pa.Table.from_batches([batch])
            rows = decided(rows.filter(references.is_of(rows, names)), taken)
            live.add(rows)
            is_sure = pc.equal(rows.column("verdict"), "overlap")
            is_gone = pc.is_in(rows.column("pair_id"), value_set=gone)
            unknown = pa.scalar(None, pa.bool_())
            rows = rows.append_column("removed", pc.if_else(is_sure, is_gone, unknown))
            yield rows.select(AUDIT.names).cast(AUDIT)

    with pq.ParquetWriter(path, AUDIT) as file:
        for group in _groups(parts()):
            file.write_table(group)


def _groups(parts: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The rows in groups of one size: the file does not depend on how they came."""
    held, rows = [AUDIT.empty_table()], 0
    for part in parts:
        held.append(part)
        rows += part.num_rows
        while rows >= _GROUP_ROWS:
            whole = pa.concat_tables(held).combine_chunks()
            yield whole.slice(0, _GROUP_ROWS)
            held = [whole.slice(_GROUP_ROWS)]
            rows -= _GROUP_ROWS
    yield pa.concat_tables(held).combine_chunks()


def _told_of_making(subject: Subject, dedup: DedupSettings) -> dict[str, Any]:
    """What another person needs to make the same audit, and to see that it is the same."""
    usual, default = FingerprintSettings().variants, DedupSettings()
    cascade = {name: getattr(dedup, name) for name in _CASCADE}
    changed = [name for name, value in cascade.items() if value != getattr(default, name)]
    changed += ["variants"] if list(subject.variants) != usual else []
    hashes = sum(count.hashes for count in subject.counts.values())
    return {
        "version": code_version(),
        "phash": "identical",
        "variants": list(subject.variants),
        "cascade": cascade,
        "changed": changed,
        "comparisons": subject.images * hashes,
        "corpus": {"images": subject.images, "digest": subject.digest},
        "sets": {
            name: {"images": count.images, "hashes": count.hashes, "digest": count.digest}
            for name, count in sorted(subject.counts.items())
        },
        "rates": {
            "source": measured.RATES_SOURCE,
            "rows": measured.rates(),
            "plain": measured.PLAIN_RATE,
        },
    }


_CASCADE = (
    "candidate_distance",
    "candidate_pdq_distance",
    "pdq_distance",
    "min_quality",
    "min_similarity",
    "references_per_image",
)
"""Settings of dedup that decide what overlaps."""


def _decisions(settings: AuditSettings) -> Decisions:
    if settings.decisions is None:
        return Decisions(audit="", thresholds={}, pairs={})
    return decisions.read(settings.decisions)


def _told_of_decisions(
    gathered: Gathered,
    taken: Decisions,
    removed: set[str],
    kept: set[str],
    subject: Subject,
    settings: AuditSettings,
) -> dict[str, Any] | None:
    """What a decisions file changed, and what of it the corpus does not know yet."""
    if settings.decisions is None:
        return None
    sure = gathered.sure()
    accepted = set(sure.filter(pc.is_valid(pc.field("decided"))).column("pair_id").to_pylist())
    # A rejected pair may overlap another image as well, and is taken out for that.
    rejected = gathered.overturned - set(sure.column("pair_id").to_pylist())
    in_shards, in_vain = accepted & kept, rejected & removed
    is_done = not in_vain and not in_shards
    command = subject.take_decisions.replace("FILE", shlex.quote(settings.decisions))
    return {
        "file": settings.decisions,
        "sets": dict(taken.thresholds),
        "pairs": len(taken.pairs),
        "decided": gathered.decided.total(),
        "changed": gathered.changed,
        "unknown_pairs": len(taken.pairs) - len(gathered.found),
        "unknown_sets": sorted(
            name for name in taken.thresholds if not gathered.images(name).num_rows
        ),
        "is_of_these_overlaps": taken.audit == gathered.digest.hexdigest(),
        "accepted_in_shards": len(in_shards),
        "rejected_removed": len(in_vain),
        "next": "" if is_done else command,
    }


def _told_of_predictions(
    sure: pa.Table, kept: set[str], subject: Subject, settings: AuditSettings
) -> dict[str, Any] | None:
    """Accuracy on all, on the clean and on the overlapping images, by model and set."""
    if not settings.predictions:
        return None
    sets = references.evaluation(subject.evalsets)
    names = {s.name: set(subject.eval_ids(s.name).to_pylist()) for s in sets}
    read = predictions.read(settings.predictions, names)
    if settings.trained_on == "shards":
        left = pa.array(sorted(kept), pa.string())
        sure = sure.filter(pc.is_in(sure.column("pair_id"), value_set=left))
    overlapping = {name: set(audit.overlapping(sure, name)) for name in names}
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


def _write_lists(folder: Path, sure: pa.Table, removed: set[str], subject: Subject) -> None:
    """The removed pairs, and by set the images that overlap, for those who score the clean."""
    gone = sure.filter(pc.is_in(sure.column("pair_id"), value_set=pa.array(removed, pa.string())))
    write_pairs(folder / "removed.csv", gone)
    (folder / "overlapping").mkdir()
    for evalset in references.evaluation(subject.evalsets):
        with (folder / "overlapping" / f"{evalset.name}.txt").open("w", encoding="utf-8") as stream:
            stream.writelines(f"{_line(name)}\n" for name in audit.overlapping(sure, evalset.name))


def write_pairs(path: Path, rows: pa.Table) -> None:
    """Overlaps as CSV."""
    columns = ["pair_id", "source", "eval_id", "variant", "phash_distance", "pdq_distance"]
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow([name.removesuffix("_distance") for name in columns])
        for batch in rows.select(columns).to_batches(max_chunksize=_GROUP_ROWS):
            writer.writerows(row.values() for row in batch.to_pylist())


def _line(name: str) -> str:
    """A name on one line; quoted as JSON where it would be several."""
    return name if name.isprintable() and not name.startswith('"') else json.dumps(name)


# -- a run as a subject --------------------------------------------------------------------


def _of_run(run: Run) -> Subject:
    sets, dedup, files = run.settings.evalsets, run.settings.dedup, run.files("fingerprints")
    names = [evalset.name for evalset in references.evaluation(sets)]
    known = some(files, counted.COLUMNS, pc.field("source") != "corpus")
    corpus = some(files, ["sha256"], pc.field("source") == "corpus")
    return Subject(
        name=run.root.name,
        images=run.rows("images"),
        digest=counted.digest_of(batch.column("sha256") for batch in corpus),
        evalsets=sets,
        variants=run.settings.fingerprint.variants,
        counts=counted.counts(known, names, dedup.min_quality),
        overlaps=lambda: batches(run.files("overlaps"), OVERLAPS),
        removed=partial(_those_of, run, "dropped"),
        kept=partial(_those_of, run, "shards"),
        pictures=partial(pictures.downloaded, run),
        eval_ids=partial(_eval_ids, run),
        take_decisions=f"wit build --run {shlex.quote(str(run.root))} "
        "--set dedup.decisions=FILE --update",
    )


def _those_of(run: Run, table: str, pair_ids: pa.Array) -> set[str]:
    """Those of the pairs that a table holds."""
    rows = some(run.files(table), ["pair_id"], pc.field("pair_id").isin(pair_ids))
    return {pair_id for batch in rows for pair_id in batch.column("pair_id").to_pylist()}


def _eval_ids(run: Run, name: str) -> pa.Array:
    is_original = (pc.field("source") == name) & (pc.field("variant") == "original")
    found = [batch.column("id") for batch in some(run.files("fingerprints"), ["id"], is_original)]
    return pa.concat_arrays([pa.array([], pa.string()), *found])
