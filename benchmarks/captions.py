"""Captions: real ones and the lists of queries that benchmarks look for in them."""

import bz2
import html
import random
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.text import tokens
from queries.wikitext import strip
from queries.wordnet import synset_names

WORDNET = Path("/usr/share/wordnet")


def real(data: Path) -> list[str]:
    """The captions in `data`/captions."""
    return [
        str(text)
        for file in sorted((data / "captions").glob("*.parquet"))
        for text in pq.read_table(file, columns=["text"])["text"].to_pylist()
        if text
    ]


def captions(data: Path, rows: int) -> pa.StringArray:
    """So many captions: those of `data`/captions, and then halves of two of them put together."""
    texts = real(data)
    rng = random.Random(0)
    rng.shuffle(texts)
    halves = [text.split() for text in texts]
    while len(texts) < rows:
        head, tail = rng.choice(halves), rng.choice(halves)
        texts.append(" ".join(head[: (len(head) + 1) // 2] + tail[len(tail) // 2 :]))
    return pa.array(texts[:rows], pa.string())


def queries(data: Path, size: int) -> list[str]:
    """So many queries of the kinds that the list has: words and bigrams of Wikipedia's excerpts in
    `data`/wiki, titles, and WordNet where this machine has it; the most frequent of each first."""
    words: Counter[str] = Counter()
    bigrams: Counter[str] = Counter()
    for file in sorted((data / "wiki").glob("enwiki-2*-pages-articles.xml.bz2")):
        for page in bz2.decompress(file.read_bytes()).decode("utf-8", "replace").split("</page>"):
            body = page.partition("<text")[2].partition(">")[2].partition("</text>")[0]
            for line in strip(html.unescape(body)).split("\n"):
                found = tokens(line)
                words.update(found)
                bigrams.update(map(" ".join, pairwise(found)))
    titles = (data / "wiki" / "enwiki-202306-top10k-titles-click-probability.csv").read_text()
    listed = [" ".join(tokens(line.rpartition(",")[0])) for line in titles.splitlines()[1:]]
    synsets = [" ".join(tokens(n)) for n in synset_names(str(WORDNET))] if WORDNET.is_dir() else []
    kinds = [words, listed, synsets, dict(bigrams.most_common())]
    distinct = dict.fromkeys(query for kind in kinds for query in kind if query)
    return list(distinct)[:size]
