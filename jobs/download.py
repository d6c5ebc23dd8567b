"""drawn -> images"""

from jobs.run import Ledger, Run
from pipeline.download import clear_staged, download, totals


def main(run: Run) -> None:
    settings = run.settings.download
    folder = run.begin("images", resume=True)
    clear_staged(folder)
    results = download(run.read("drawn"), str(folder.absolute()), settings)
    with run.progress.watch(run.spark, "download"):
        shards = [row["raw_shard"] for row in results.collect()]
    clear_staged(folder)

    sums = totals(folder, shards)
    notes = {
        "raw_shards": sums.shards,
        "image_bytes": sums.image_bytes,
        "task_seconds": round(sums.task_seconds, 3),
        "failures_by_host": sums.worst_hosts,
    }
    ledger = Ledger(
        run.rows("drawn"), sums.successes, dict(sums.reasons), notes, content=sums.content
    )
    run.finish("images", ledger)
