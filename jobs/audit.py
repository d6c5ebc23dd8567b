"""images, fingerprints, overlaps, dropped, shards -> audit"""

import csv
import json
from collections import Counter

import pyarrow.parquet as pq

from jobs.audit_page import write_page
from jobs.run import Ledger, Run
from pipeline import audit


def main(run: Run) -> None:
    settings, dedup = run.settings.audit, run.settings.dedup
    audited = audit.mark_removed(run.read_arrow("overlaps"), run.read_arrow("dropped", ["pair_id"]))
    in_shards = set(run.read_arrow("shards", ["pair_id"]).column("pair_id").to_pylist())
    lines = audit.summary(
        audited, _eval_images(run), run.rows("images"), in_shards, settings, dedup
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


def _eval_images(run: Run) -> dict[str, dict[str, int]]:
    """By evaluation set: its images, its hashes with every variant, and the flat images."""
    columns = ["source", "variant", "quality"]
    counts: dict[str, Counter[str]] = {
        evalset.name: Counter(images=0, hashes=0, flat=0) for evalset in run.settings.evalsets
    }
    for row in run.read_arrow("fingerprints", columns).to_pylist():
        if row["source"] == "corpus":
            continue
        count = counts[row["source"]]
        count["hashes"] += 1
        if row["variant"] == "original":
            count["images"] += 1
            count["flat"] += row["quality"] < run.settings.dedup.min_quality
    return {name: dict(count) for name, count in counts.items()}
