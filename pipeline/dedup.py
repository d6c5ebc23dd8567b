"""Dedup: pairs that repeat an evaluation image, an error image or another pair are dropped.

reads   images, fingerprints
writes  overlaps, dropped, deduped

The cascade: equal bytes or pixels decide; else pHash within 8 bits proposes and PDQ confirms,
unless one of the two is too flat for PDQ. Thresholds and error rates: docs/decisions.md.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pipeline.cascade import VERDICTS, verdicts
from pipeline.hamming import HammingIndex
from pipeline.placeholders import placeholders
from pipeline.schemas import DROPPED, OVERLAPS
from pipeline.settings import DedupSettings

REASONS = (
    "evaluation overlap",
    "placeholder",
    "exact duplicate",
    "near duplicate",
    "no fingerprint",
)
_OVERLAPS_DDL = (
    "pair_id string, source string, eval_id string, variant string, "
    "phash_distance int, pdq_distance int, similarity float, verdict string"
)
_BUCKET_LIMIT = 200
"""Images that share half of their hash and are compared with one another; more, with the first."""

Counts = NDArray[np.int64]


def pdq_distance(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Counts:
    """Hamming distances of rows of 32 bytes."""
    distances: Counts = np.bitwise_count(first ^ second).sum(axis=-1, dtype=np.int64)
    return distances


# -- against the evaluation sets -----------------------------------------------------------


def overlaps(fingerprints: DataFrame, settings: DedupSettings) -> DataFrame:
    """Every corpus image near an evaluation image, its nearest variant, and the verdict."""
    reference = _collected(fingerprints.where(F.col("source") != "corpus"))
    shared = fingerprints.sparkSession.sparkContext.broadcast(reference)
    corpus = fingerprints.where(F.col("source") == "corpus")
    corpus = corpus.select("id", "phash", "pdq", "quality", "sha256", "pixels_sha256")

    def search_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        known = shared.value
        index = HammingIndex(known["phash"], settings.candidate_distance)
        same = _places(known)
        for batch in batches:
            rows = _columns(pa.Table.from_batches([batch]))
            yield _overlaps_in(rows, known, index, same, settings)

    return corpus.mapInArrow(search_batches, _OVERLAPS_DDL)


def _collected(fingerprints: DataFrame) -> dict[str, Any]:
    # In the order of the names, so that the nearest of equals is the same in every run.
    ordered = fingerprints.orderBy("source", "id", "variant")
    return _columns(ordered.toArrow())


def _columns(table: pa.Table) -> dict[str, Any]:
    """The columns of fingerprints as arrays; hashes as unsigned words and bytes."""
    columns: dict[str, Any] = {name: table.column(name).to_pylist() for name in table.column_names}
    columns["phash"] = np.array(columns["phash"], np.int64).view(np.uint64)
    columns["quality"] = np.array(columns["quality"], np.int64)
    joined = b"".join(columns["pdq"])
    columns["pdq"] = np.frombuffer(joined, np.uint8).reshape(-1, 32)
    return columns


def _places(known: dict[str, Any]) -> dict[str, list[int]]:
    """Where each digest of bytes or of pixels stands among the evaluation images."""
    places: dict[str, list[int]] = defaultdict(list)
    for column in ("sha256", "pixels_sha256"):
        for place, digest in enumerate(known[column]):
            if digest is not None:
                places[digest].append(place)
    return places


def _overlaps_in(
    corpus: dict[str, Any],
    known: dict[str, Any],
    index: HammingIndex,
    same: dict[str, list[int]],
    settings: DedupSettings,
) -> pa.RecordBatch:
    query, hashed, _ = index.search(corpus["phash"])
    near = set(zip(query.tolist(), hashed.tolist(), strict=True))
    # The same file is the same image, however little its hashes say: stored images are encoded
    # anew, and the hashes of a smooth one do not survive that.
    equal = {
        (q, h)
        for column in ("sha256", "pixels_sha256")
        for q, digest in enumerate(corpus[column])
        for h in same.get(digest, ())
    }
    best: dict[tuple[str, str, str], tuple[Any, ...]] = {}
    for q, h in sorted(near | equal):
        phash = int(np.bitwise_count(corpus["phash"][q] ^ known["phash"][h]))
        pdq = int(pdq_distance(corpus["pdq"][q], known["pdq"][h]))
        quality = int(min(corpus["quality"][q], known["quality"][h]))
        known_same = np.array([(q, h) in equal])
        code = verdicts(
            np.array([phash]), np.array([pdq]), np.array([quality]), known_same, settings
        )
        verdict = VERDICTS[code[0]]
        key = (corpus["id"][q], known["source"][h], known["id"][h])
        row = (*key, known["variant"][h], phash, pdq, None, verdict)
        order = (VERDICTS.index(verdict), pdq, phash)
        if key not in best or order < best[key][0]:
            best[key] = (order, row)
    rows = [row for _, row in best.values()]
    columns = [pa.array([r[i] for r in rows], f.type) for i, f in enumerate(OVERLAPS)]
    return pa.RecordBatch.from_arrays(columns, names=OVERLAPS.names)


# -- within the corpus ---------------------------------------------------------------------


def dropped(
    images: DataFrame, fingerprints: DataFrame, overlaps: DataFrame, settings: DedupSettings
) -> DataFrame:
    """Every arrived pair that does not stay: its first reason in the order of REASONS."""
    arrived = images.where(F.col("status") == "success")
    area = (F.col("width") * F.col("height")).alias("area")
    arrived = arrived.select("pair_id", "url", "caption", area)
    corpus = fingerprints.where(F.col("source") == "corpus").withColumnRenamed("id", "pair_id")
    corpus = arrived.join(
        corpus.select("pair_id", "phash", "pdq", "quality", "sha256", "pixels_sha256"),
        on="pair_id",
        how="left",
    )
    against_evals = _of_evaluation(overlaps)
    rest = corpus.join(against_evals, on="pair_id", how="left_anti")

    blind = rest.where(F.col("phash").isNull())
    seen = rest.where(F.col("phash").isNotNull())
    errors = placeholders(seen, settings)
    seen = seen.join(errors.select("pair_id"), on="pair_id", how="left_anti")

    # Largest first, then the first by name: the one that represents its equals.
    in_order = Window.partitionBy("pixels_sha256").orderBy(F.desc("area"), "pair_id")
    seen = seen.withColumn("rival", F.first("pair_id").over(in_order))
    is_copy = F.col("rival") != F.col("pair_id")
    near = _near_duplicates(seen.where(~is_copy), settings)
    return (
        against_evals.select(*DROPPED.names)
        .unionByName(_drop(blind, "no fingerprint", F.lit(None).cast("string")))
        .unionByName(_drop(errors, "placeholder", F.col("rival")))
        .unionByName(_drop(seen.where(is_copy), "exact duplicate", F.col("rival")))
        .unionByName(near)
    )


def _drop(pairs: DataFrame, reason: str, rival: Any) -> DataFrame:
    return pairs.select(
        "pair_id",
        F.lit(reason).alias("reason"),
        rival.alias("rival"),
        F.lit("corpus").alias("source"),
        F.lit(0).cast("int").alias("distance"),
    )


def _of_evaluation(overlaps: DataFrame) -> DataFrame:
    """The nearest evaluation image of each pair that overlaps one."""
    sure = overlaps.where(F.col("verdict") == "overlap")
    nearest = F.min(F.struct("pdq_distance", "source", "eval_id")).alias("nearest")
    sure = sure.groupBy("pair_id").agg(nearest)
    return sure.select(
        "pair_id",
        F.lit("evaluation overlap").alias("reason"),
        F.col("nearest.eval_id").alias("rival"),
        F.col("nearest.source").alias("source"),
        F.col("nearest.pdq_distance").alias("distance"),
    )


def _near_duplicates(images: DataFrame, settings: DedupSettings) -> DataFrame:
    """Every image but the largest of each cluster of near-duplicates."""
    sharp = images.where(F.col("quality") >= settings.min_quality)
    edges = _edges(sharp, settings).toArrow()
    session = images.sparkSession
    ddl = "pair_id string, reason string, rival string, source string, distance int"
    if edges.num_rows == 0:
        return session.createDataFrame([], ddl)
    first, second = edges.column("first").to_pylist(), edges.column("second").to_pylist()
    names = sorted({*first, *second})
    areas = dict(zip(first, edges.column("first_area").to_pylist(), strict=True))
    areas |= dict(zip(second, edges.column("second_area").to_pylist(), strict=True))
    distances = edges.column("distance").to_pylist()
    nearest: dict[str, int] = {}
    for a, b, distance in zip(first, second, distances, strict=True):
        for name in (a, b):
            nearest[name] = min(distance, nearest.get(name, distance))
    rows = [
        (name, "near duplicate", rival, "corpus", nearest[name])
        for name, rival in _representatives(names, first, second, areas).items()
        if name != rival
    ]
    return session.createDataFrame(rows, ddl)


def _representatives(
    names: list[str], first: list[str], second: list[str], areas: dict[str, int]
) -> dict[str, str]:
    """The largest image of each one's cluster; of equals, the first by name."""
    place = {name: i for i, name in enumerate(names)}
    at = ([place[name] for name in first], [place[name] for name in second])
    graph = coo_array((np.ones(len(first), np.int8), at), shape=(len(names), len(names)))
    _, labels = connected_components(graph, directed=False)
    best: dict[int, str] = {}
    for name, label in sorted(zip(names, labels, strict=True), key=lambda e: (-areas[e[0]], e[0])):
        best.setdefault(int(label), name)
    return {name: best[int(label)] for name, label in zip(names, labels, strict=True)}


def _edges(images: DataFrame, settings: DedupSettings) -> DataFrame:
    """Pairs of images whose pHash is within the radius and whose PDQ confirms it.

    Two hashes within 3 bits agree in at least one of four blocks of 16 bits, and within 2 bits in
    two of them: each choice of two blocks (of one, at radius 3) is a key to meet under.
    """
    blocks = [F.shiftrightunsigned("phash", 16 * i).bitwiseAND(0xFFFF) for i in range(4)]
    if settings.corpus_phash_distance <= 2:
        chosen = [(i, j) for i in range(4) for j in range(i)]
        keys = [
            blocks[i] * F.lit(1 << 16) + blocks[j] + F.lit(place << 32)
            for place, (i, j) in enumerate(chosen)
        ]
    else:
        keys = [blocks[i] + F.lit(i << 32) for i in range(4)]
    lean = images.select("pair_id", "phash", "pdq", "area", F.explode(F.array(*keys)).alias("key"))
    in_key = Window.partitionBy("key").orderBy("pair_id")
    lean = lean.withColumn("place", F.row_number().over(in_key))
    left = lean.select(
        "key",
        *[F.col(n).alias(f"first_{n}") for n in ("pair_id", "phash", "pdq", "area", "place")],
    )
    right = lean.select(
        "key",
        *[F.col(n).alias(f"second_{n}") for n in ("pair_id", "phash", "pdq", "area", "place")],
    )
    # A crowded key would be a square of comparisons: behind the limit, only with its first.
    left = left.where(F.col("first_place") <= _BUCKET_LIMIT)
    is_compared = (F.col("first_place") == 1) | (F.col("second_place") <= _BUCKET_LIMIT)
    apart = F.bit_count(F.col("first_phash").bitwiseXOR(F.col("second_phash")))
    near = left.join(right, on="key", how="inner")
    near = near.where(F.col("first_place") < F.col("second_place")).where(is_compared)
    near = near.where(apart <= settings.corpus_phash_distance)
    near = near.dropDuplicates(["first_pair_id", "second_pair_id"])
    near = near.select(
        F.col("first_pair_id").alias("first"),
        F.col("second_pair_id").alias("second"),
        "first_area",
        "second_area",
        "first_pdq",
        "second_pdq",
    )

    def confirm(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            one = np.frombuffer(b"".join(batch.column("first_pdq").to_pylist()), np.uint8)
            two = np.frombuffer(b"".join(batch.column("second_pdq").to_pylist()), np.uint8)
            distance = pdq_distance(one.reshape(-1, 32), two.reshape(-1, 32))
            lean = batch.drop_columns(["first_pdq", "second_pdq"])
            lean = lean.append_column("distance", pa.array(distance, pa.int32()))
            yield lean.filter(pa.array(distance <= settings.pdq_distance))

    ddl = "first string, second string, first_area int, second_area int, distance int"
    return near.mapInArrow(confirm, ddl)


def deduped(images: DataFrame, dropped: DataFrame) -> DataFrame:
    """The arrived pairs that stay."""
    arrived = images.where(F.col("status") == "success").select("pair_id")
    return arrived.join(dropped.select("pair_id"), on="pair_id", how="left_anti")
