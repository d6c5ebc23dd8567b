"""Match: find every query that occurs in a caption, as whole tokens.

reads   candidates, queries
writes  matched
"""

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
from pyspark import Broadcast
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipeline.errors import BadInput
from pipeline.schemas import CANDIDATES, MATCHED
from pipeline.text import normalise, tokens

REASONS = ("no query",)


class QueryIndex:
    """The query list, ready to be looked for: a trie whose edges are tokens.

    A query's id is its place in the list that the index was built from.
    """

    def __init__(self, queries: list[str]) -> None:
        self._queries = queries
        self._edges: dict[tuple[int, str], int] = {}
        self._query_at: dict[int, int] = {}
        for query_id, query in enumerate(queries):
            node = 0
            for token in query.split(" "):
                node = self._edges.setdefault((node, token), len(self._edges) + 1)
            self._query_at[node] = query_id

    @classmethod
    def build(cls, queries: list[str]) -> "QueryIndex":
        """An index of normalised, distinct queries. Raises BadInput for others."""
        check(queries)
        return cls(queries)

    def save(self, path: str) -> None:
        """Write the index to a file that `load` reads."""
        Path(path).write_text(json.dumps(self._queries, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, path: str) -> "QueryIndex":
        """The index that `save` wrote."""
        return cls(json.loads(Path(path).read_text(encoding="utf-8")))

    def match(self, captions: pa.StringArray) -> pa.ListArray:
        """The ids of the queries in each caption, ascending, as list<int32>; null has none."""
        found = [self.queries_in(caption or "") for caption in captions.to_pylist()]
        return pa.array(found, pa.list_(pa.int32()))

    def queries_in(self, caption: str) -> list[int]:
        """The ids of the queries that occur in `caption`, ascending."""
        words = tokens(caption)
        found = set()
        for begin in range(len(words)):
            node: int | None = 0
            for word in words[begin:]:
                node = self._edges.get((node or 0, word))
                if node is None:
                    break
                if node in self._query_at:
                    found.add(self._query_at[node])
        return sorted(found)


def check(queries: list[str]) -> None:
    """Raises BadInput for a list that is empty, repeats itself, or is not normalised."""
    if not queries:
        raise BadInput("the query list is empty: run `wit derive` with other sources")
    if len(set(queries)) < len(queries):
        raise BadInput("the query list names a query twice: run `wit derive --again`")
    for query in queries:
        if normalise(query) != query or not query:
            raise BadInput(f"the query {query!r} is not normalised: run `wit derive --again`")


def match(candidates: DataFrame, queries: list[str]) -> DataFrame:
    """Candidates with the queries in their captions; `dropped_for` where there is none."""
    check(queries)
    listed = candidates.sparkSession.sparkContext.broadcast(tuple(queries))

    def match_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        index = _index(listed)
        for batch in batches:
            yield batch.append_column("query_ids", index.match(batch.column("caption")))

    ddl = "{}, query_ids array<int>".format(
        ", ".join(f"{f.name} {'float' if f.type == pa.float32() else 'string'}" for f in CANDIDATES)
    )
    matched = candidates.mapInArrow(match_batches, ddl).select(*MATCHED.names)
    has_none = F.size("query_ids") == 0
    return matched.withColumn("dropped_for", F.when(has_none, "no query"))


def _index(listed: "Broadcast[tuple[str, ...]]") -> QueryIndex:
    return _built(listed.value)


@lru_cache(maxsize=1)
def _built(queries: tuple[str, ...]) -> QueryIndex:
    """Built once for each Python worker, which outlives its tasks."""
    return QueryIndex(list(queries))
