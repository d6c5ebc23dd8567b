"""images, fingerprints, overlaps, dropped, shards -> audit"""

import csv
import json
from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from jobs.audit_page import write_page
from jobs.ledger import Ledger
from jobs.run import Run
from pipeline import audit


def main(run: Run) -> None:
    settings, dedup = run.settings.audit, run.settings.dedup
    audited = audit.mark_removed(run.read_arrow("overlaps"), run.read_arrow("dropped", ["pair_id"]))
    lines = audit.summary(
        audited, _eval_images(run), run.rows("images"), _in_shards(run, audited), settings, dedup
    )
    folder = run.begin("audit")
    pq.write_table(audited, folder / "overlaps.parquet")
    with (folder / "removed.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["pair_id", "source", "eval_id", "variant", "phash", "pdq"])
        columns = ("pair_id", "source", "eval_id", "variant", "phash_distance", "pdq_distance")
        for row in audited.to_pylist():
            if row["removed"] and row["verdict"] == "overlap":
                writer.writerow([row[name] for name in columns])
    told = {"sets": audit.as_json(lines), "clip": audit.CLIP_REFERENCE}
    (folder / "summary.json").write_text(json.dumps(told, indent=1))
    write_page(run, folder, audited, lines)
    notes = {line.evalset: f"{line.overlapping} of {line.images}" for line in lines}
    run.finish("audit", Ledger(run.rows("overlaps"), audited.num_rows, notes=notes))


def _in_shards(run: Run, audited: pa.Table) -> set[str]:
    """Those of the audited pairs that the shards hold."""
    wanted = audited.column("pair_id").unique()
    rows = ds.dataset([str(file) for file in run.files("shards")], format="parquet")
    found = rows.to_table(columns=["pair_id"], filter=pc.field("pair_id").isin(wanted))
    return set(found.column("pair_id").to_pylist())


def _eval_images(run: Run) -> dict[str, dict[str, int]]:
    """By evaluation set: its images, its hashes with every variant, and the flat images."""
    columns = ["source", "variant", "quality"]
    counts: dict[str, Counter[str]] = {
        evalset.name: Counter(images=0, hashes=0, flat=0) for evalset in run.settings.evalsets
    }
    rows = ds.dataset([str(file) for file in run.files("fingerprints")], format="parquet")
    of_sets = rows.to_table(columns=columns, filter=pc.field("source") != "corpus")
    for row in of_sets.to_pylist():
        count = counts[row["source"]]
        count["hashes"] += 1
        if row["variant"] == "original":
            count["images"] += 1
            count["flat"] += row["quality"] < run.settings.dedup.min_quality
    return {name: dict(count) for name, count in counts.items()}
