"""images, balanced -> shards"""

import json

from jobs.ledger import Ledger
from jobs.run import Run
from pipeline.card import card
from pipeline.shard import IN_JSON, index, plan, shard


def main(run: Run) -> None:
    balanced = run.read("balanced")
    has_alternatives = run.settings.dedup.keep_captions == "all"
    if has_alternatives:
        balanced = balanced.join(run.read("deduped"), on="pair_id", how="left")
    placed, shards = plan(balanced, run.settings.shard)
    folder = run.begin("shards")
    with run.progress.watch(run.spark, "shards"):
        tasks = shard(placed, shards, str(run.path("images")), str(folder))
        written = tasks.toArrow().to_pylist()
    told = index(written, run.settings.shard.samples_per_shard)
    (folder / "index.json").write_text(json.dumps(told, indent=1))
    # The names and counts that open_clip reads.
    sizes = {entry["name"]: entry["samples"] for entry in told["shards"]}
    (folder / "sizes.json").write_text(json.dumps(sizes, indent=1))
    (folder / "README.md").write_text(card(IN_JSON, alternatives=has_alternatives))
    total_bytes = sum(entry["bytes"] for entry in told["shards"])
    notes = {"shards": shards, "bytes": total_bytes}
    run.finish("shards", Ledger(run.rows("balanced"), told["samples"], notes=notes))
