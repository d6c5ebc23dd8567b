"""candidates, queries -> matched, counts"""

import numpy as np
import pyarrow as pa

from jobs.ledger import Ledger
from jobs.run import Run
from pipeline.match import QueryIndex, match
from pipeline.parts import clear_staged, parts
from pipeline.schemas import COUNTS


def main(run: Run) -> None:
    queries = run.read_arrow("queries", ["query"]).column("query").to_pylist()
    folder = run.begin("matched")
    with run.progress.note("building the index"):
        index = QueryIndex.build(queries, run.settings.match.semantics)
        # Spark refuses another file of a name that it has sent already.
        file = folder / f"_index_{index.sha256[:16]}"
        index.save(file)
    todo = parts(run.files("candidates"))
    with run.progress.watch(run.spark, "matched"):
        told = match(run.spark, todo, str(file.absolute()), len(queries), str(folder.absolute()))
    clear_staged(folder)
    rows = told.counts["rows"]
    notes = {"matches": int(told.per_query.sum()), "index_bytes": index.size_bytes}
    dropped = {"no query": told.counts["no query"]}
    run.finish("matched", Ledger(run.rows("candidates"), rows, dropped, notes))

    query_ids = np.arange(len(queries), dtype=np.int32)
    counts = pa.table([query_ids, told.per_query], schema=COUNTS)
    run.write_arrow("counts", counts, Ledger(len(queries), len(queries)))
