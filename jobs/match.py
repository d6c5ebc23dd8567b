"""candidates, queries -> matched, counts"""

from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa

from jobs.ledger import Ledger
from jobs.run import Run
from jobs.scratch import scratch_of
from pipeline import storage
from pipeline.match import QueryIndex, match
from pipeline.parts import clear_staged, parts
from pipeline.schemas import COUNTS
from pipeline.storage import Place


def main(run: Run) -> None:
    queries = run.read_arrow("queries", ["query"]).column("query").to_pylist()
    folder = run.begin("matched")
    with run.progress.note("building the index"):
        index = QueryIndex.build(queries, run.settings.match.semantics)
        file = _file_of(index, folder)
        index.save(file)
    todo = parts(run.files("candidates"))
    with run.watch("matched"):
        where = storage.absolute(folder)
        told = match(run.spark, todo, str(file.absolute()), len(queries), where)
    clear_staged(folder)
    rows = told.counts["rows"]
    notes = {"matches": int(told.per_query.sum()), "index_bytes": index.size_bytes}
    dropped = {"no query": told.counts["no query"]}
    run.finish("matched", Ledger(run.rows("candidates"), rows, dropped, notes))

    query_ids = np.arange(len(queries), dtype=np.int32)
    counts = pa.table([query_ids, told.per_query], schema=COUNTS)
    run.write_arrow("counts", counts, Ledger(len(queries), len(queries)))


def _file_of(index: QueryIndex, folder: Place) -> Path:
    """A file of this machine, from which Spark sends the index to every other."""
    # Spark refuses another file of a name that it has sent already.
    name = f"_index_{index.sha256[:16]}"
    if storage.is_remote(folder):
        scratch = scratch_of(folder)
        scratch.mkdir(parents=True, exist_ok=True)
        return scratch / f"{name}_{uuid4().hex[:8]}"
    return folder / name
