"""images, deduped, counts, reached -> balanced, coverage"""

import numpy as np
import pyarrow as pa

from jobs import tables
from jobs.ledger import Ledger
from jobs.run import Run
from pipeline import storage
from pipeline.balance import FULL, balance
from pipeline.download.tries import arrived
from pipeline.parts import clear_staged, name_of, own_suffix, parts
from pipeline.schemas import COVERAGE


def main(run: Run) -> None:
    folder = run.begin("balanced")
    pool = run.read_arrow("counts", ["pairs"])["pairs"].to_numpy()
    reached = run.read_arrow("reached", ["target", "drawn"])
    targets, drawn = reached["target"].to_numpy(), reached["drawn"].to_numpy()
    staged = folder / "_arrived"
    with run.watch("balanced"):
        # A pair that was tried again has a row for each round.
        pairs = arrived(run.read("images"))
        stay = run.read("deduped").select("pair_id")
        todo = parts(tables.put(pairs.join(stay, on="pair_id", how="inner"), staged))
        where, own = storage.absolute(folder), own_suffix(folder)
        told, sizes = balance(
            run.spark, todo, pool, run.settings.balance, where, targets=targets, own=own
        )
    tables.remove(staged)
    clear_staged(folder)
    rows, dropped = told.counts["rows"], {FULL: told.counts[FULL]}
    files = [folder / name_of(part.number, own) for part in todo]
    run.finish("balanced", Ledger(run.rows("deduped"), rows, dropped), files)

    columns = [np.arange(len(pool), dtype=np.int32), pool, drawn, sizes, told.per_query]
    coverage = pa.table(columns, schema=COVERAGE).filter(pa.array(pool > 0))
    run.write_arrow("coverage", coverage, Ledger(coverage.num_rows, coverage.num_rows))
