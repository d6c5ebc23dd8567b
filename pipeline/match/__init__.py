"""Match: find every query that occurs in a caption, as whole tokens.

reads   candidates, queries
writes  matched, counts
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import pyarrow as pa
from pyspark import SparkFiles
from pyspark.sql import SparkSession

from pipeline import parts
from pipeline.match.index import QueryIndex, Semantics
from pipeline.parts import Part, Tally
from pipeline.schemas import CANDIDATES, MATCHED

__all__ = ["REASONS", "QueryIndex", "Semantics", "match", "match_part"]

REASONS = ("no query",)


def match(
    spark: SparkSession, candidates: list[Part], index: str, queries: int, folder: str
) -> Tally:
    """Write the candidates that have a query into `folder`; "rows" are written, "no query" are not,
    and the pairs of each query.

    `index` is the file of a QueryIndex of so many queries; Spark sends it to every machine. Each
    task maps it into memory, and no caption passes through the JVM.
    """
    spark.sparkContext.addFile(index)
    name = index.rpartition("/")[2]

    def work(part: Part) -> Tally:
        return match_part(part, _loaded(SparkFiles.get(name)), folder)

    return parts.tally(spark, candidates, work, queries)


def match_part(part: Part, index: QueryIndex, folder: str) -> Tally:
    """Match one part and write it; the same counts."""
    pairs = np.zeros(index.size, np.int64)
    counts = {"no query": 0}

    def matched() -> Iterator[pa.RecordBatch]:
        for batch in parts.read(part, CANDIDATES.names):
            query_ids = index.match(batch.column("caption"))
            has_query = np.diff(query_ids.offsets.to_numpy()) > 0
            counts["no query"] += batch.num_rows - int(has_query.sum())
            np.add.at(pairs, query_ids.values.to_numpy(), 1)
            batch = batch.append_column("query_ids", query_ids)
            yield batch if has_query.all() else batch.filter(pa.array(has_query))

    rows = parts.write(folder, part.number, MATCHED, matched())
    return Tally({"rows": rows, **counts}, pairs)


@lru_cache(maxsize=1)
def _loaded(path: str) -> QueryIndex:
    """Loaded once for each Python worker, which outlives its tasks."""
    return QueryIndex.load(path)
