"""Combine: the union of the sources, one query per normalised form, numbered.

reads   words, bigrams, titles, synset names, integers
writes  queries

All but titles are taken; titles fill what is left of the budget, the most viewed first, as
MetaCLIP's counts imply. In the list they stand in the order of CLIP section 2.2: words, bigrams,
titles, synsets.
"""

from collections import Counter
from collections.abc import Iterable

import pyarrow as pa

from pipeline.schemas import QUERIES
from pipeline.text import normalise
from queries.blocklist import Blocklist

SOURCES = ("word", "bigram", "title", "wordnet", "integer")
_PRECEDENCE = ("word", "bigram", "wordnet", "integer", "title")
INTEGERS = tuple(str(number) for number in range(100))

Scored = Iterable[tuple[str, float | None]]
"""Texts with what their source ranks them by, the best first."""


def combine(
    offered: dict[str, Scored], blocklist: Blocklist, max_queries: int, max_tokens: int
) -> tuple[pa.Table, int, dict[str, int]]:
    """The query list from what each of SOURCES offers; rows offered; rows dropped by reason."""
    dropped: Counter[str] = Counter()
    taken: dict[str, dict[str, float | None]] = {source: {} for source in SOURCES}
    sources: dict[str, list[str]] = {}
    rows_in = 0
    for source in _PRECEDENCE:
        for text, score in offered.get(source, ()):
            rows_in += 1
            query = normalise(text)
            if not query:
                dropped["empty after normalising"] += 1
            elif query.count(" ") >= max_tokens:
                dropped["too many tokens"] += 1
            elif query in sources:
                dropped["in the list already"] += 1
                if source not in sources[query]:
                    sources[query].append(source)
            elif blocklist.line(query) is not None:
                dropped["blocked"] += 1
            elif len(sources) >= max_queries:
                dropped["over the budget"] += 1
            else:
                taken[source][query] = score
                sources[query] = [source]
    listed = [query for source in SOURCES for query in taken[source]]
    table = pa.table(
        [
            pa.array(range(len(listed)), pa.int32()),
            pa.array(listed, pa.string()),
            pa.array([s for s in SOURCES for _ in taken[s]], pa.string()),
            pa.array([n for s in SOURCES for n in range(1, len(taken[s]) + 1)], pa.int32()),
            pa.array([score for s in SOURCES for score in taken[s].values()], pa.float64()),
            pa.array([sources[query] for query in listed], pa.list_(pa.string())),
        ],
        schema=QUERIES,
    )
    return table, rows_in, dict(dropped)
