"""images, balanced -> shards"""

from jobs.ledger import Ledger
from jobs.run import Run
from pipeline import poison, storage
from pipeline.card import card
from pipeline.compaction import IN_JSON
from pipeline.placing import (
    CARD,
    Written,
    clear_others,
    clear_unfinished,
    write_index,
    write_text,
)
from pipeline.shard import plan, shard


def main(run: Run) -> None:
    balanced = run.read("balanced")
    has_alternatives = run.settings.dedup.keep_captions == "all"
    if has_alternatives:
        balanced = balanced.join(run.read("deduped"), on="pair_id", how="left")
    placed, shards = plan(balanced, run.settings.shard)
    # Executors have working directories of their own.
    folder = run.begin("shards", resume=True).absolute()
    raw_folder = storage.absolute(run.path("images"))
    clear_unfinished(folder)
    with run.watch("shards"):
        rows = shard(placed, shards, raw_folder, str(folder)).toArrow().to_pylist()
    poison.check("shard", [(row["name"], row) for row in rows])
    written = [Written(*(row[name] for name in Written._fields)) for row in rows]
    clear_others(folder, shards)
    write_text(folder, CARD, card(IN_JSON, alternatives=has_alternatives))
    index = write_index(folder, written, run.settings.shard.samples_per_shard)
    notes = {"shards": shards, "bytes": sum(each.bytes for each in written)}
    run.finish("shards", Ledger(run.rows("balanced"), index["samples"], notes=notes))
