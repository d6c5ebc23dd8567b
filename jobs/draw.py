"""matched, counts -> drawn, draws"""

from jobs.ledger import Ledger
from jobs.run import Run
from pipeline import storage
from pipeline.balance import draw, to_table
from pipeline.parts import clear_staged, parts


def main(run: Run) -> None:
    settings = run.settings.balance
    folder = run.begin("drawn")
    pool = run.read_arrow("counts", ["pairs"])["pairs"].to_numpy()
    with run.watch("drawn"):
        matched = parts(run.files("matched"))
        drawn = draw(run.spark, matched, pool, settings, storage.absolute(folder))
    clear_staged(folder)
    dropped = {
        name: count for name, count in drawn.tally.counts.items() if name != "rows" and count
    }
    rows = drawn.tally.counts["rows"]
    run.finish("drawn", Ledger(run.rows("matched"), rows, dropped))
    draws = to_table(drawn.cut, drawn.targets, drawn.tally.per_query)
    run.write_arrow("draws", draws, Ledger(len(pool), len(pool)))
