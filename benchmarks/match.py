"""Match: real captions against 500,000 queries, beside pyahocorasick, MetaCLIP's rule and Spark.

Rates are of one core: CPU seconds of one process, and of a session with one task at a time, its JVM
and its Python workers, where Spark is in it. A slow peer has fewer captions; rates are compared.
"""

import hashlib
import shutil
import sys
import tempfile
import unicodedata
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ahocorasick
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark import __version__ as spark_version
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from benchmarks import captions
from benchmarks.form import Figure, alternate, cpu_seconds, high_water, publish, spark_seconds
from jobs.spark import session
from pipeline.match import QueryIndex, Semantics, match
from pipeline.parts import parts
from pipeline.schemas import CANDIDATES
from pipeline.settings import SparkSettings
from pipeline.text import normalise

_QUERIES, _CAPTIONS = 500_000, 1_000_000
_OF_PEER, _OF_LOOP, _OF_SPARK = 100_000, 50, 200_000
"""Captions that slow peers are given."""
_BATCH = 1 << 15
_TIMES = 8
"""The captions of a larger job, in which building and sending the index costs next to nothing."""
_MOST_WORDS = 5
"""Of the queries of the job. Spark makes every n-gram up to the longest query's length: for a few
hundred longer ones it would take three times as long."""
_ROUNDS = 3
_ALL = 10e9
_PEER = f"pyahocorasick {version('pyahocorasick')}"
_MIB = 1 << 20


def main(data: Path) -> None:
    """Measure with the captions and excerpts in `data` and publish."""
    if not (data / "captions").is_dir():
        print(f"{data} holds no captions: bench-match is skipped")
        return
    queries = captions.queries(data, _QUERIES)
    texts = captions.captions(data, _CAPTIONS)
    with tempfile.TemporaryDirectory() as scratch:
        figures = _job(queries, texts, Path(scratch))
    publish("match", [*_kernel(queries, texts), *_metaclip(queries, texts), *figures])


def _found(index: QueryIndex, texts: pa.StringArray) -> list[pa.ListArray]:
    """The matches of all texts, so many at a time as a task takes."""
    return [index.match(texts[at : at + _BATCH]) for at in range(0, len(texts), _BATCH)]


def _lists(found: list[pa.ListArray]) -> list[list[int]]:
    return [ids for array in found for ids in array.to_pylist()]


# -- the kernel ----------------------------------------------------------------------------


def _automaton(queries: list[str]) -> Any:
    automaton = ahocorasick.Automaton()
    for number, query in enumerate(queries):
        automaton.add_word(f" {query} ", number)
    automaton.make_automaton()
    return automaton


def _searched(automaton: Any, spaced: list[str]) -> list[list[int]]:
    return [sorted({number for _, number in automaton.iter(text)}) for text in spaced]


def _building(queries: list[str], semantics: Semantics) -> tuple[QueryIndex, Any, list[float]]:
    """Our index and the peer's, and the CPU seconds and MiB of both."""
    made: dict[str, Any] = {}

    def ours() -> None:
        made["ours"] = QueryIndex.build(queries, semantics)

    def theirs() -> None:
        made["theirs"] = _automaton(queries)

    ours()  # compiles
    seconds = [cpu_seconds(ours), cpu_seconds(theirs)]
    sizes = [made["ours"].size_bytes / _MIB, made["theirs"].get_stats()["total_size"] / _MIB]
    return made["ours"], made["theirs"], [*seconds, *sizes]


def _kernel(queries: list[str], texts: pa.StringArray) -> list[Figure]:
    index, automaton, (ours_built, built, ours_mib, mib) = _building(queries, "tokens")
    plain = [normalise(text) for text in texts[:_OF_PEER].to_pylist()]
    array, spaced = pa.array(plain, pa.string()), [f" {text} " for text in plain]
    assert _lists(_found(index, array)) == _searched(automaton, spaced), "the two find other ids"
    few = texts[:_OF_LOOP].to_pylist()
    padded = [f" {query} " for query in queries]

    def loop() -> list[list[int]]:
        lines = [f" {normalise(text)} " for text in few]
        return [[n for n, query in enumerate(padded) if query in line] for line in lines]

    assert loop() == _lists(_found(index, texts[:_OF_LOOP])), "the loop finds other ids"
    seconds = alternate(
        {
            "ours": lambda: _found(index, array),
            "theirs": lambda: _searched(automaton, spaced),
            "ours, raw": lambda: _found(index, texts),
            "theirs, raw": lambda: _searched(
                automaton, [f" {normalise(text)} " for text in texts[:_OF_PEER].to_pylist()]
            ),
        },
        rounds=_ROUNDS,
    )
    slow = cpu_seconds(loop)
    ours, theirs = len(array) / seconds["ours"], len(plain) / seconds["theirs"]
    raw, raw_theirs = len(texts) / seconds["ours, raw"], len(plain) / seconds["theirs, raw"]
    return [
        Figure("normalised captions", ours, "captions/s", theirs, _PEER, goal=10),
        Figure("captions as they are", raw, "captions/s", raw_theirs, f"normalise, {_PEER}"),
        Figure("beside a loop over all queries", raw, "captions/s", _OF_LOOP / slow, "Python's in"),
        Figure("building", _QUERIES / ours_built, "queries/s", _QUERIES / built, _PEER),
        Figure("index of 500,000 queries", ours_mib, "MiB", goal=64, at_most=True),
        Figure("automaton of 500,000 queries", mib, "MiB, the peer's"),
    ]


def _metaclip(queries: list[str], texts: pa.StringArray) -> list[Figure]:
    """MetaCLIP's own rule, by an automaton over its spaced text."""
    index, automaton, _ = _building(queries, "metaclip")
    few = texts[:_OF_PEER].to_pylist()

    def theirs() -> list[list[int]]:
        return _searched(automaton, [_spaced(text) for text in few])

    assert _lists(_found(index, texts[:_OF_PEER])) == theirs(), "the two find other ids"
    contenders: dict[str, Callable[[], object]] = {
        "ours": lambda: _found(index, texts),
        "theirs": theirs,
    }
    seconds = alternate(contenders, rounds=_ROUNDS)
    ours, peer = len(texts) / seconds["ours"], len(few) / seconds["theirs"]
    return [Figure("MetaCLIP's rule", ours, "captions/s", peer, f"its spacing, {_PEER}")]


def _spaced(text: str) -> str:
    """MetaCLIP, `spacing`."""
    text = f" {text} "
    for mark in (",", ".", ";", ":", "?", "!", "`"):
        text = text.replace(mark, f" {mark} ")
    for space in ("\t", "\n", "\r"):
        text = text.replace(space, " ")
    return text


# -- the job -------------------------------------------------------------------------------


def _candidates(folder: Path, texts: pa.StringArray) -> list[Path]:
    """`texts` as candidates, and how they are written by ingest: one row group of 131,072 each."""
    folder.mkdir()
    names = [hashlib.sha256(str(place).encode()).hexdigest() for place in range(len(texts))]
    columns = {
        "pair_id": pa.array([name[:32] for name in names]),
        "url": pa.array([f"https://images.example/{name[32:]}.jpg" for name in names]),
        "caption": texts,
        "page_url": pa.array([f"https://pages.example/{name[:12]}" for name in names]),
        "language": pa.array(["en"] * len(texts)),
        "language_score": pa.array(np.linspace(0.5, 1, len(texts), dtype=np.float32)),
    }
    nothing = {field.name: pa.nulls(len(texts), field.type) for field in CANDIDATES}
    table = pa.table([(nothing | columns)[n] for n in CANDIDATES.names], schema=CANDIDATES)
    pq.write_table(table, folder / "0.parquet", row_group_size=1 << 17, compression="zstd")
    return [folder / "0.parquet"]


def _job(queries: list[str], texts: pa.StringArray, scratch: Path) -> list[Figure]:
    queries = [query for query in queries if query.count(" ") < _MOST_WORDS]
    files = {
        size: _candidates(scratch / str(size), texts[:size]) for size in (_OF_SPARK, len(texts))
    }
    listed = pa.table({"query": queries, "query_id": np.arange(len(queries), dtype=np.int32)})
    pq.write_table(listed, scratch / "queries.parquet")
    settings = SparkSettings(master="local[1]", partitions=8, driver_memory="4g")
    spark = session(settings, scratch / "spark")
    made = 0

    def ours(size: int, times: int = 1) -> None:
        nonlocal made
        made += 1
        out = scratch / "ours"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        index = QueryIndex.build(queries)
        index.save(out / f"_index_{made}")  # Spark sends no other file of one name
        todo = parts(files[size] * times)
        match(spark, todo, str(out / f"_index_{made}"), index.size, str(out))

    def theirs() -> None:
        _joined(spark, str(scratch / str(_OF_SPARK)), scratch)

    ours(_OF_SPARK)  # compiles
    seconds = {"theirs": spark_seconds(theirs)}
    _agree(_read(scratch / "theirs"), _read(scratch / "ours"))
    contenders = {"ours": lambda: ours(len(texts)), "more": lambda: ours(len(texts), _TIMES)}
    seconds |= alternate(contenders, rounds=_ROUNDS, measure=spark_seconds)  # type: ignore[arg-type]
    workers = [
        p for p in psutil.Process().children(recursive=True) if p.name().startswith("python")
    ]
    peak = max(high_water(worker.pid) for worker in workers)
    spark.stop()
    rate = len(texts) * _TIMES / seconds["more"]
    return [
        Figure(
            "the job, parquet to parquet",
            len(texts) / seconds["ours"],
            "captions/s",
            _OF_SPARK / seconds["theirs"],
            f"Spark {spark_version}, n-grams and broadcast join",
            goal=15,
        ),
        Figure(f"the job, {_TIMES} times as many", rate, "captions/s"),
        Figure("peak memory of a worker of the job", peak / _MIB, "MiB"),
        Figure("10 billion captions", _ALL / rate / 3600, "core hours"),
    ]


def _joined(spark: SparkSession, folder: str, scratch: Path) -> None:
    """The same table by Spark alone: every n-gram of a caption, joined to the queries."""
    candidates = spark.read.parquet(folder)
    words = F.filter(
        F.split(F.lower("caption"), r"[^\p{L}\p{N}\p{M}]+"), lambda word: word != ""
    ).alias("words")
    sizes = range(1, _MOST_WORDS + 1)
    grams = F.array_distinct(F.flatten(F.array(*[_grams(size) for size in sizes])))
    rows = candidates.select("pair_id", words).select("pair_id", F.explode(grams).alias("query"))
    queries = F.broadcast(spark.read.parquet(str(scratch / "queries.parquet")))
    found = rows.join(queries, on="query", how="inner").groupBy("pair_id")
    lists = found.agg(F.sort_array(F.collect_list("query_id")).alias("query_ids"))
    matched = candidates.join(lists, on="pair_id", how="inner")
    matched.write.mode("overwrite").parquet(str(scratch / "theirs"))


def _grams(size: int) -> Column:
    """All runs of so many words."""
    last = F.size("words") - size + 1
    places = F.when(last > 0, F.sequence(F.lit(1), last)).otherwise(F.array().cast("array<int>"))
    return F.transform(places, lambda at: F.array_join(F.slice("words", at, size), " "))


def _read(folder: Path) -> dict[str, tuple[str, list[int]]]:
    columns = ["pair_id", "caption", "query_ids"]
    files = list(folder.glob("*.parquet"))
    rows = pa.concat_tables([pq.ParquetFile(file).read(columns=columns) for file in files])
    lists = [rows[name].to_pylist() for name in columns]
    return {pair: (caption, ids) for pair, caption, ids in zip(*lists, strict=True)}


def _agree(
    theirs: dict[str, tuple[str, list[int]]], ours: dict[str, tuple[str, list[int]]]
) -> None:
    """Both are equal, but for captions that Spark, which knows no NFKC, cannot fold."""
    for pair in theirs.keys() | ours.keys():
        (caption, one), (_, other) = (t.get(pair, ("", [])) for t in (theirs, ours))
        lower = (caption or ours[pair][0]).lower()
        is_folded = unicodedata.normalize("NFKC", lower) == lower
        assert one == other or not is_folded, f"the two find other ids in {caption!r}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
