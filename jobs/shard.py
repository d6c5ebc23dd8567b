"""images, balanced -> shards"""

from jobs.ledger import Ledger
from jobs.run import Run
from pipeline.placing import Written, clear_others, clear_unfinished, write_index
from pipeline.shard import plan, shard


def main(run: Run) -> None:
    balanced = run.read("balanced")
    if run.settings.dedup.keep_captions == "all":
        balanced = balanced.join(run.read("deduped"), on="pair_id", how="left")
    placed, shards = plan(balanced, run.settings.shard)
    folder = run.begin("shards", resume=True)
    clear_unfinished(folder)
    with run.progress.watch(run.spark, "shards"):
        tasks = shard(placed, shards, str(run.path("images")), str(folder))
        written = [Written(**row) for row in tasks.toArrow().to_pylist()]
    clear_others(folder, shards)
    index = write_index(folder, written, run.settings.shard.samples_per_shard)
    notes = {"shards": shards, "bytes": sum(each.bytes for each in written)}
    run.finish("shards", Ledger(run.rows("balanced"), index["samples"], notes=notes))
