"""Combine: the union of the sources, one query per normalised form, numbered.

reads   words, bigrams, titles, synset names
writes  queries

Words, bigrams and synsets are all taken; titles fill what is left of the budget, the most viewed
first, as MetaCLIP's counts imply. In the list they stand in the order of CLIP section 2.2: words,
bigrams, titles, synsets.
"""

from collections import Counter
from collections.abc import Iterable

import pyarrow as pa

from pipeline.schemas import QUERIES
from pipeline.text import normalise

SOURCES = ("word", "bigram", "title", "wordnet")
REASONS = (
    "empty after normalising",
    "too many tokens",
    "in the list already",
    "over the budget",
)

Scored = Iterable[tuple[str, float | None]]
"""Texts with what their source ranks them by."""


def combine(
    offered: dict[str, Scored], max_queries: int, max_tokens: int
) -> tuple[pa.Table, int, dict[str, int]]:
    """The query list from what each of SOURCES offers; rows offered; rows dropped by reason."""
    dropped: Counter[str] = Counter()
    owner: dict[str, str] = {}
    score: dict[str, float | None] = {}
    sources: dict[str, list[str]] = {}
    rows_in = 0
    for source in ("word", "bigram", "wordnet", "title"):
        for text, value in _ranked(offered.get(source, ())):
            rows_in += 1
            query = normalise(text)
            if not query:
                dropped["empty after normalising"] += 1
            elif query.count(" ") >= max_tokens:
                dropped["too many tokens"] += 1
            elif query in owner:
                dropped["in the list already"] += 1
                if source not in sources[query]:
                    sources[query].append(source)
            elif len(owner) >= max_queries:
                dropped["over the budget"] += 1
            else:
                owner[query], score[query], sources[query] = source, value, [source]
    # A dict keeps its order, so that each source stays ranked within its block.
    listed = [query for source in SOURCES for query, by in owner.items() if by == source]
    table = pa.table(
        [
            pa.array(range(len(listed)), pa.int32()),
            pa.array(listed, pa.string()),
            pa.array([owner[query] for query in listed], pa.string()),
            pa.array([score[query] for query in listed], pa.float64()),
            pa.array([sources[query] for query in listed], pa.list_(pa.string())),
        ],
        schema=QUERIES,
    )
    return table, rows_in, dict(dropped)


def _ranked(offer: Scored) -> list[tuple[str, float | None]]:
    """The best first, ties in the order of the text; without scores, as they come."""
    entries = list(offer)
    if any(value is None for _, value in entries):
        return entries
    return sorted(entries, key=lambda entry: (-(entry[1] or 0.0), entry[0]))
