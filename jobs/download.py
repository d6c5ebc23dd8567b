"""matched, counts, drawn, draws -> images, reached"""

import time
from collections import Counter
from dataclasses import asdict
from typing import Any

from jobs import rounds, tables
from jobs.ledger import TRIED_AGAIN, Ledger
from jobs.rounds import Asked
from jobs.run import Run
from pipeline import poison
from pipeline.download import (
    clear_others,
    clear_staged,
    download,
    raw_files,
    raw_shards_in,
    totals,
)
from pipeline.raw_shards import shard_name
from pipeline.schemas import IMAGES
from pipeline.storage import Place


def main(run: Run) -> None:
    settings = run.settings.download
    folder = run.begin("images", resume=True).absolute()
    clear_staged(folder)
    asked, rows, again = rounds.first(run), 0, Counter[str]()
    shards: list[int] = []
    told: list[dict[str, Any]] = []
    for number in range(1, settings.rounds + 1):
        staged = folder / f"_round-{number}"
        if number > 1:
            run.check_held()
            images = run.frame(raw_files(folder, shards), IMAGES)
            place = (number, max(shards) + 1)
            with run.watch(f"what round {number} asks for"):
                asked = rounds.another(run, staged, images, asked.reached, place)
            if not asked.rows:
                break
        done, notes = _downloaded(run, folder, asked, number)
        tables.remove(staged)
        shards += done
        told.append(notes)
        rows, again = rows + asked.rows, again + asked.again

    run.check_held()
    clear_others(folder, shards)
    rounds.clear(folder)
    sums = totals(folder, shards)
    # Of a pair that was asked for several times only the last try counts as a failure.
    dropped = {**(sums.reasons - again), TRIED_AGAIN: again.total()}
    notes = {
        "raw_shards": sums.shards,
        "image_bytes": sums.image_bytes,
        "task_seconds": round(sums.task_seconds, 3),
        "failures_by_host": sums.worst_hosts,
        "rounds": told,
    }
    dropped = {reason: count for reason, count in dropped.items() if count}
    run.finish("images", Ledger(rows, sums.successes, dropped, notes, content=sums.content))
    reached = asked.reached.as_table()
    run.write_arrow("reached", reached, Ledger(reached.num_rows, reached.num_rows))


def _downloaded(
    run: Run, folder: Place, asked: Asked, number: int
) -> tuple[list[int], dict[str, Any]]:
    """The raw shards of a round, and what there is to say of it."""
    were_there = raw_shards_in(folder)
    began = time.time()
    results = download(asked.pairs, str(folder), run.settings.download)
    with run.watch(f"download, round {number}"):
        rows = results.collect()
    seconds = time.time() - began
    clear_staged(folder)
    poison.check("download", [(shard_name(row["raw_shard"]), row) for row in rows])
    shards = [row["raw_shard"] for row in rows]
    sums = totals(folder, shards)
    facts = asdict(sums)
    del facts["digests"]
    return shards, facts | {
        "rows": asked.rows,
        "tried_again": asked.again.total(),
        "task_seconds": round(sums.task_seconds, 3),
        "reasons": dict(sums.reasons.most_common()),
        "hosts": sums.worst_hosts,
        "asked": sums.asked_of_worst,
        # Of no meaning where an interrupted run had done a part of it.
        "seconds": None if were_there.intersection(shards) else round(seconds, 3),
    }
