"""Search: hashes near an evaluation set's, and near one another, beside faiss, in one thread.

Hashes are drawn; the corpus of the self-join has three in ten in clusters, among them crowds of
100,000 images around one hash, as placeholders and flat images are. Faiss compares with all: of it
a sample of queries is timed.
"""

import os
import tempfile
from importlib.metadata import version
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.form import (
    Figure,
    alternate,
    cpu_seconds,
    high_water,
    publish,
    spark_seconds,
)
from jobs.spark import session
from pipeline.clusters import components, links, near_pairs
from pipeline.dedup import HammingIndex, overlaps
from pipeline.probes import Words
from pipeline.schemas import FINGERPRINTS
from pipeline.settings import DedupSettings, SparkSettings

_PEER = f"faiss {version('faiss-cpu')}, flat"
_KNOWN, _CORPUS = 1_000_000, 5_000_000
_QUERIES, _OF_PEER = 400_000, 2_000
_PDQ_QUERIES, _PDQ_OF_PEER = 60_000, 1_000
_OF_SPARK, _TIMES = 200_000, 4
"""Images of the smaller job, and how many times that the larger one has: what is measured is the
difference, in which starting and sending cost nothing."""
_OF_JOIN = 500
_ROUNDS = 3
_ALL = 400e6
_GIGABYTE = 1e9
_RADIUS, _PDQ_RADIUS, _JOIN_RADIUS = 8, 31, 2


def main() -> None:
    """Measure and publish."""
    faiss.omp_set_num_threads(1)
    random = np.random.default_rng(6)
    known = random.integers(0, 2**64, _KNOWN, dtype=np.uint64)
    with tempfile.TemporaryDirectory() as scratch:
        figures, peer_rate = _index(random, known)
        figures += _pdq(random)
        figures += _job(random, known, peer_rate, Path(scratch))
    publish("search", [*figures, *_join(random)])


def _bytes(hashes: Words) -> np.ndarray:
    return hashes.view(np.uint8).reshape(len(hashes), -1)


def _flat(hashes: Words) -> faiss.IndexBinaryFlat:
    rows = _bytes(hashes)
    flat = faiss.IndexBinaryFlat(8 * rows.shape[1])
    flat.add(rows)
    return flat


def _same_as(flat: faiss.IndexBinaryFlat, index: HammingIndex, queries: Words, radius: int) -> int:
    """How many pairs both find; that they find the same is asserted."""
    # Faiss takes what is nearer than the radius.
    bounds, distances, hashed = flat.range_search(_bytes(queries), radius + 1)
    query = np.repeat(np.arange(len(queries)), np.diff(bounds.astype(np.int64)))
    order = np.lexsort((hashed, query))
    found = index.search(queries if queries.ndim == 1 else _bytes(queries))
    for ours, theirs in zip(found, (query, hashed, distances), strict=True):
        assert np.array_equal(ours, theirs[order].astype(np.int64))
    return len(query)


def _planted(random: np.random.Generator, hashes: Words, count: int, radius: int) -> Words:
    """Queries of which one in a hundred is within the radius of a hash."""
    queries = random.integers(0, 2**64, (count, *hashes.shape[1:]), dtype=np.uint64)
    near = slice(0, count // 100)
    queries[near] = hashes[random.integers(0, len(hashes), count // 100)]
    places = queries[near].reshape(count // 100, -1)
    for _ in range(radius):
        places[:, 0] ^= np.uint64(1) << random.integers(0, 64, len(places), dtype=np.uint64)
    return queries


def _index(random: np.random.Generator, known: Words) -> tuple[list[Figure], float]:
    queries = _planted(random, known, _QUERIES, _RADIUS)
    HammingIndex(known[:300_000], _RADIUS).search(queries[:10])  # the loops are compiled
    built = alternate({"build": lambda: HammingIndex(known, _RADIUS)}, rounds=_ROUNDS)["build"]
    index, flat = HammingIndex(known, _RADIUS), _flat(known)
    assert _same_as(flat, index, queries[:_OF_PEER], _RADIUS) >= _OF_PEER
    spent = alternate(
        {
            "ours": lambda: index.search(queries),
            "peer": lambda: flat.range_search(_bytes(queries[:_OF_PEER]), _RADIUS + 1),
        },
        rounds=_ROUNDS,
    )
    ours, peer = _QUERIES / spent["ours"], _OF_PEER / spent["peer"]
    hours = [_ALL / rate / 3600 for rate in (ours, peer)]
    name = "1M hashes of 64 bits, radius 8"
    return [
        Figure(name, ours, "queries/s", peer, _PEER, goal=18),
        Figure(f"{name}: built", built, "s"),
        Figure(f"{name}: index", index.size_bytes / 1e6, "MB"),
        Figure(f"{name}: 400M images", hours[0], "core-hours", hours[1], _PEER),
    ], peer


def _pdq(random: np.random.Generator) -> list[Figure]:
    known = random.integers(0, 2**64, (_KNOWN, 4), dtype=np.uint64)
    queries = _planted(random, known, _PDQ_QUERIES, _PDQ_RADIUS)
    HammingIndex(_bytes(known[:300_000]), _PDQ_RADIUS).search(_bytes(queries[:10]))
    index, flat = HammingIndex(_bytes(known), _PDQ_RADIUS), _flat(known)
    assert _same_as(flat, index, queries[:_PDQ_OF_PEER], _PDQ_RADIUS)
    spent = alternate(
        {
            "ours": lambda: index.search(_bytes(queries)),
            "peer": lambda: flat.range_search(_bytes(queries[:_PDQ_OF_PEER]), _PDQ_RADIUS + 1),
        },
        rounds=_ROUNDS,
    )
    ours, peer = _PDQ_QUERIES / spent["ours"], _PDQ_OF_PEER / spent["peer"]
    name = "1M hashes of 256 bits, radius 31"
    return [
        Figure(name, ours, "queries/s", peer, _PEER),
        Figure(f"{name}: index", index.size_bytes / 1e6, "MB"),
    ]


def _table(random: np.random.Generator, phash: Words, source: str) -> pa.Table:
    """Fingerprints of photos, each with a digest of its bytes and of its pixels."""
    rows = len(phash)
    words = random.integers(0, 2**63, (rows, 8), dtype=np.int64)
    digests = pa.array([f"{one:016x}" * 4 for one in words[:, 4].tolist()])
    columns = {
        "id": pa.array([f"{one:032x}" for one in words[:, 5].tolist()]),
        "source": pa.array([source]).take(pa.array(np.zeros(rows, np.int32))),
        "variant": pa.array(["original"]).take(pa.array(np.zeros(rows, np.int32))),
        "phash": pa.array(phash.view(np.int64)),
        "pdq": pa.array([row.tobytes() for row in words[:, :4]], pa.binary()),
        "quality": pa.array(np.full(rows, 100, np.int32)),
        "sha256": digests,
        "pixels_sha256": digests,
        "side": pa.array(np.full(rows, 256, np.int32)),
        "look": pa.nulls(rows, pa.binary()),
    }
    return pa.table(columns).cast(FINGERPRINTS)


def _job(
    random: np.random.Generator, known: Words, peer_rate: float, scratch: Path
) -> list[Figure]:
    """The stage, with the JVM and its Python workers."""
    settings = DedupSettings()
    evals = scratch / "evals.parquet"
    pq.write_table(_table(random, known, "evals"), evals)
    corpora = {}
    for name, times in (("small", 1), ("large", _TIMES)):
        corpora[name] = scratch / f"{name}.parquet"
        queries = _planted(random, known, _OF_SPARK * times, _RADIUS)
        rows = _table(random, queries, "corpus")
        pq.write_table(rows, corpora[name], row_group_size=50_000)
    spark = session(SparkSettings(master="local[1]", partitions=4), scratch / "spark")

    def search(name: str) -> None:
        table = spark.read.parquet(str(evals), str(corpora[name]))
        overlaps(table, settings).write.mode("overwrite").parquet(str(scratch / "found"))

    search("small")
    spent = alternate(
        {name: lambda name=name: search(name) for name in corpora},  # type: ignore[misc]
        rounds=_ROUNDS,
        measure=spark_seconds,
    )
    spark.stop()
    rate = _OF_SPARK * (_TIMES - 1) / (spent["large"] - spent["small"])
    name = "the Spark job, 1M eval hashes"
    return [
        Figure(name, rate, "images/s", peer_rate, _PEER, goal=10),
        Figure(f"{name}: 400M images", _ALL / rate / 3600, "core-hours"),
        Figure(f"{name}: beside the images", spent["small"] - _OF_SPARK / rate, "s"),
    ]


def skewed(random: np.random.Generator, count: int) -> Words:
    """Hashes of which three in ten are in clusters: five crowds of 100,000, and small ones."""
    alone = random.integers(0, 2**64, count * 7 // 10, dtype=np.uint64)
    crowd = min(100_000, count // 50)
    crowds = np.repeat(random.integers(0, 2**64, 5, dtype=np.uint64), crowd)
    left = count - len(alone) - len(crowds)
    sizes = random.zipf(1.8, left).clip(2, 200)
    sizes = sizes[: np.searchsorted(np.cumsum(sizes), left)]
    few = np.repeat(random.integers(0, 2**64, len(sizes), dtype=np.uint64), sizes)
    rest = random.integers(0, 2**64, left - len(few), dtype=np.uint64)
    for near, flips in ((crowds, 3), (few, 2)):
        for _ in range(flips):
            bits = np.uint64(1) << random.integers(0, 64, len(near), dtype=np.uint64)
            near ^= np.where(random.random(len(near)) < 0.6, bits, np.uint64(0))
    hashes = np.concatenate([alone, crowds, few, rest])
    random.shuffle(hashes)
    return hashes


def _join(random: np.random.Generator) -> list[Figure]:
    hashes = skewed(random, _CORPUS)
    near_pairs(hashes[:20_000], _JOIN_RADIUS)  # the loops are compiled
    links(hashes[:2000], np.zeros((2000, 4), np.uint64), _JOIN_RADIUS, 31)
    flat = _flat(hashes)
    sample = hashes[:_OF_JOIN]
    spent = alternate(
        {
            "ours": lambda: near_pairs(hashes, _JOIN_RADIUS),
            "peer": lambda: flat.range_search(_bytes(sample), _JOIN_RADIUS + 1),
        },
        rounds=_ROUNDS,
    )
    peer = spent["peer"] * len(hashes) / _OF_JOIN
    first, second, _ = near_pairs(hashes, _JOIN_RADIUS)
    united = cpu_seconds(lambda: components(first, second, len(hashes)))
    pairs = len(first)
    # Near by pHash, and by PDQ in half of the images: what a crowd of one template looks like.
    pdq = random.integers(0, 2**64, (len(hashes), 4), dtype=np.uint64)
    pdq[random.random(len(hashes)) < 0.5] = 0
    linked = cpu_seconds(lambda: links(hashes, pdq, _JOIN_RADIUS, 31))
    name = "5M hashes among themselves, radius 2"
    told = f"{_PEER}, from {_OF_JOIN} queries"
    return [
        Figure(f"{name}: faiss's seconds to ours", peer / spent["ours"], "x", goal=50),
        Figure(name, spent["ours"], "s", peer, told),
        Figure(f"{name}: pairs", pairs / 1e6, "M"),
        Figure(f"{name}: components", pairs / united / 1e6, "M links/s"),
        Figure(f"{name}: with PDQ, links", linked, "s"),
        Figure(
            "memory of all the above",
            high_water(os.getpid()) / _GIGABYTE,
            "GB",
            goal=6,
            at_most=True,
        ),
    ]


if __name__ == "__main__":
    main()
