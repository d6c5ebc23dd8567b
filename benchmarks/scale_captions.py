"""Candidates as the web has them, as many as wanted: real captions put together anew.

A caption that the real ones hold more than once stays whole and comes as often. Any other is the
first half of one and the second half of another with as many words, mostly of the same source: so
lengths and languages are those of real captions, and words and their neighbours as frequent. One
row in six is a pair that an earlier row has; which one, a long tail says, as of pictures that each
page of a site shows.
"""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.scale_names import Words, mixed, uniform
from benchmarks.scale_run import begun
from jobs.ledger import Ledger
from pipeline.schemas import QUERIES

_ROWS_OF_FILE = 1_000_000
_REPEATS = 1 / 6
_TAIL = 3
"""Of repeats: the earliest pairs are shown some 2,000 times among 2 million rows."""
_HOSTS = 65_536
_PARTNERS = 1000
"""Captions beside it, with as many words, that one is put together with."""
_CAP_SHARE = 1000
"""Candidates for each pair that a query may keep: 20,000 of 20 million. It grows with the size, so
that each keeps the same share."""

Longs = npt.NDArray[np.int64]


class Pool(NamedTuple):
    """Real captions, cut into halves."""

    whole: pa.StringArray
    heads: pa.StringArray
    tails: pa.StringArray
    is_whole: npt.NDArray[np.bool_]
    words: Longs
    by_words: Longs
    """Places of the captions that are put together, in the order of their words."""
    begins: Longs
    """Where in `by_words` those of so many words begin, and one more."""
    rank: Longs
    """Where in `by_words` each caption stands."""


def pool(texts: list[str]) -> Pool:
    """Captions to be put together."""
    times = Counter(texts)
    cut = [text.split() for text in texts]
    words = np.array([len(parts) for parts in cut])
    is_whole = np.array([times[text] > 1 for text in texts]) | (words < 2)
    open_ones = np.flatnonzero(~is_whole)
    by_words = open_ones[np.argsort(words[open_ones], kind="stable")]
    begins = np.searchsorted(words[by_words], np.arange(words.max(initial=0) + 2))
    rank = np.zeros(len(texts), np.int64)
    rank[by_words] = np.arange(len(by_words))
    heads = pa.array([" ".join(parts[: -(-len(parts) // 2)]) for parts in cut])
    tails = pa.array([" ".join(parts[-(-len(parts) // 2) :]) for parts in cut])
    return Pool(pa.array(texts), heads, tails, is_whole, words, by_words, begins, rank)


def keys(first: int, rows: int) -> Words:
    """The pair that each row has, from row `first` on: one number, one pair."""
    places = np.arange(first, first + rows, dtype=np.uint64)
    earlier = (uniform(places, 1) ** _TAIL * places).astype(np.uint64)
    return np.where(uniform(places, 0) < _REPEATS, earlier, places)


def captions(pool: Pool, keys: Words) -> pa.StringArray:
    """The caption of each pair."""
    one = (mixed(keys, 2) % np.uint64(len(pool.whole))).astype(np.int64)
    begins, ends = pool.begins[pool.words[one]], pool.begins[pool.words[one] + 1]
    # Of those that stay whole there may be none with as many words.
    sizes = np.maximum(ends - begins, 1)
    further = (uniform(keys, 3) * np.minimum(sizes, _PARTNERS)).astype(np.int64)
    place = begins + (pool.rank[one] - begins + further) % sizes
    other = pool.by_words[np.minimum(place, len(pool.by_words) - 1)]
    together = pc.binary_join_element_wise(
        pool.heads.take(pa.array(one)), pool.tails.take(pa.array(other)), " "
    )
    return pc.if_else(pa.array(pool.is_whole[one]), pool.whole.take(pa.array(one)), together)


def urls(keys: Words) -> pa.StringArray:
    """The address of each pair; few hosts have many."""
    host = (uniform(keys, 4) ** 4 * _HOSTS).astype(np.int64)
    parts = "https://site-", pa.array(host).cast("string"), ".example/pictures/"
    return pc.binary_join_element_wise(*parts, pa.array(keys).cast("string"), ".jpg", "")


def make(folder: Path, rows: int, texts: Pool, queries: list[str]) -> None:
    """A run that may begin with ingest: its settings, a table of so many candidates, queries."""
    tables = folder / "tables"
    tables.mkdir(parents=True)
    for number, first in enumerate(range(0, rows, _ROWS_OF_FILE)):
        of_file = keys(first, min(_ROWS_OF_FILE, rows - first))
        table = pa.table({"url": urls(of_file), "caption": captions(texts, of_file)})
        pq.write_table(table, tables / f"{number:05d}.parquet", compression="zstd")
    cap = max(1, rows // _CAP_SHARE)
    run = begun(
        folder, f'ingest.tables=[{{path = "{tables}"}}]', f"balance.max_pairs_per_query={cap}"
    )
    count = len(queries)
    columns = {
        "query_id": pa.array(range(count), pa.int32()),
        "query": pa.array(queries),
        "source": pa.array(["word"] * count),
        "rank": pa.array(range(1, count + 1), pa.int32()),
        "score": pa.nulls(count, pa.float64()),
        "sources": pa.array([["word"]] * count),
    }
    with run.stage("derive", {}, {}):
        run.write_arrow("queries", pa.table(columns, schema=QUERIES), Ledger(count, count))
