"""Dedup: pairs that repeat a reference image, an error image or another pair are dropped.

reads   images, fingerprints
writes  overlaps, dropped, deduped

References are the images of evaluation sets, blocklists and opt-outs. The cascade: equal bytes or
pixels decide; else pHash within 8 bits proposes and PDQ confirms, unless one of the two is too flat
for PDQ. Thresholds and error rates: docs/decisions.md.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from pipeline import references
from pipeline.clusters import components, links
from pipeline.decisions import Decisions, apply_to_batches
from pipeline.hamming import HammingIndex
from pipeline.hashcolumns import pdq_words
from pipeline.placeholders import placeholders
from pipeline.references import References
from pipeline.schemas import DROPPED
from pipeline.settings import DedupSettings

__all__ = ["REASONS", "HammingIndex", "crowded", "deduped", "dropped", "overlaps"]

PURPOSES = {
    "blocklist": "blocked image",
    "opt-out": "opted-out image",
    "evaluation": "evaluation overlap",
}
"""What a set of references is for, and the reason of a pair that repeats one of them."""
REASONS = (
    *PURPOSES.values(),
    "placeholder",
    "exact duplicate",
    "near duplicate",
    "no fingerprint",
)
"""In this order: a pair that may not be there at all is told as that."""
_OVERLAPS_DDL = (
    "pair_id string, source string, eval_id string, variant string, "
    "phash_distance int, pdq_distance int, similarity float, verdict string"
)
_DROPPED_DDL = (
    "pair_id string, reason string, rival string, source string, variant string, "
    "phash_distance int, pdq_distance int"
)
_PER_TASK = 4_000_000
"""Hashes that a task compares with one another, on average: 48 bytes each, and four times as much
while it sorts them."""


# -- against the references ----------------------------------------------------------------


def overlaps(fingerprints: DataFrame, settings: DedupSettings) -> DataFrame:
    """Every corpus image near a reference image, its nearest variant, and the verdict."""
    is_corpus = F.col("source") == "corpus"
    known = fingerprints.where(~is_corpus).select("source", "variant", *references.COLUMNS)
    shared = fingerprints.sparkSession.sparkContext.broadcast(References.of(known.toArrow()))
    corpus = fingerprints.where(is_corpus).select(*references.COLUMNS)

    def search_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        searcher = references.searcher(shared.value, settings)
        for batch in batches:
            yield searcher.overlaps(batch)

    return corpus.mapInArrow(search_batches, _OVERLAPS_DDL)


def decided(overlaps: DataFrame, decisions: Decisions) -> DataFrame:
    """The overlaps with the verdicts that a person gave."""

    def decide(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return apply_to_batches(batches, decisions)

    return overlaps.mapInArrow(decide, _OVERLAPS_DDL)


def crowded(overlaps: DataFrame, settings: DedupSettings) -> int:
    """How many images have as many overlaps as are told, and may have more."""
    told = overlaps.groupBy("pair_id").count()
    return told.where(F.col("count") >= settings.references_per_image).count()


# -- within the corpus ---------------------------------------------------------------------


def dropped(
    images: DataFrame,
    fingerprints: DataFrame,
    overlaps: DataFrame,
    settings: DedupSettings,
    purposes: Mapping[str, str] | None = None,
    confirmed: Callable[[DataFrame], DataFrame] | None = None,
) -> DataFrame:
    """Every arrived pair that does not stay: its first reason in the order of REASONS.

    `purposes` says what each set of references is for, where it is not evaluation; `confirmed`
    takes out those near-duplicates that are none. What is asked for more than once is kept on disk,
    until the caller clears Spark's cache.
    """
    arrived = images.where(F.col("status") == "success")
    area = (F.col("width") * F.col("height")).alias("area")
    arrived = arrived.select("pair_id", "url", "caption", area)
    corpus = fingerprints.where(F.col("source") == "corpus").withColumnRenamed("id", "pair_id")
    corpus = arrived.join(
        corpus.select("pair_id", "phash", "pdq", "quality", "sha256", "pixels_sha256"),
        on="pair_id",
        how="left",
    )
    against_references = _of_references(overlaps, purposes or {})
    rest = corpus.join(against_references, on="pair_id", how="left_anti")

    blind = rest.where(F.col("phash").isNull())
    seen = rest.where(F.col("phash").isNotNull())
    errors = placeholders(seen, settings).persist(StorageLevel.DISK_ONLY)
    seen = seen.join(errors.select("pair_id"), on="pair_id", how="left_anti")

    seen = seen.select("pair_id", "area", "phash", "pdq", "quality", "pixels_sha256")
    seen = _represented(seen, "pixels_sha256").persist(StorageLevel.DISK_ONLY)
    is_copy = F.col("rival") != F.col("pair_id")
    tasks = 1 + fingerprints.count() * (settings.corpus_phash_distance + 1) // _PER_TASK
    near = _near_duplicates(seen.where(~is_copy), settings, tasks)
    if confirmed is not None:
        near = confirmed(near)
    no_rival = F.lit(None).cast("string")
    return (
        against_references.select(*DROPPED.names)
        .unionByName(_drop(blind, "no fingerprint", no_rival, None))
        .unionByName(_drop(errors, "placeholder", F.col("rival"), None))
        .unionByName(_drop(seen.where(is_copy), "exact duplicate", F.col("rival"), 0))
        .unionByName(near)
    )


def _drop(pairs: DataFrame, reason: str, rival: Any, distance: int | None) -> DataFrame:
    return pairs.select(
        "pair_id",
        F.lit(reason).alias("reason"),
        rival.alias("rival"),
        F.lit("corpus").alias("source"),
        F.lit(None).cast("string").alias("variant"),
        F.lit(distance).cast("int").alias("phash_distance"),
        F.lit(distance).cast("int").alias("pdq_distance"),
    )


def _represented(images: DataFrame, key: str) -> DataFrame:
    """Images with their `rival`: the largest of those with the same key, then the first by name.

    It represents them; and its hashes are the image's `rival_phash` and `rival_pdq`.
    """
    in_order = Window.partitionBy(key).orderBy(F.desc("area"), "pair_id")
    first = {"rival": "pair_id", "rival_phash": "phash", "rival_pdq": "pdq"}
    # Without a key, an image is equal to none.
    return images.withColumns(
        {
            name: F.when(F.col(key).isNull(), F.col(of)).otherwise(F.first(of).over(in_order))
            for name, of in first.items()
        }
    )


def _of_references(overlaps: DataFrame, purposes: Mapping[str, str]) -> DataFrame:
    """The nearest reference of each pair that overlaps one, of those whose reason comes first."""
    ranked = overlaps.where(F.col("verdict") == "overlap")
    rank = F.lit(list(PURPOSES).index("evaluation"))
    for source, purpose in sorted(purposes.items()):
        rank = F.when(F.col("source") == source, list(PURPOSES).index(purpose)).otherwise(rank)
    ranked = ranked.withColumn("rank", rank)
    order = ("rank", "pdq_distance", "source", "eval_id", "variant", "phash_distance")
    nearest = ranked.groupBy("pair_id").agg(F.min(F.struct(*order)).alias("nearest"))
    reasons = F.array(*[F.lit(reason) for reason in PURPOSES.values()])
    return nearest.select(
        "pair_id",
        F.element_at(reasons, F.col("nearest.rank") + 1).alias("reason"),
        F.col("nearest.eval_id").alias("rival"),
        F.col("nearest.source").alias("source"),
        F.col("nearest.variant").alias("variant"),
        F.col("nearest.phash_distance").alias("phash_distance"),
        F.col("nearest.pdq_distance").alias("pdq_distance"),
    )


def _near_duplicates(images: DataFrame, settings: DedupSettings, tasks: int) -> DataFrame:
    """Every image but the one that represents each cluster of near-duplicates."""
    is_sharp = (F.col("quality") >= settings.min_quality) & F.col("pdq").isNotNull()
    sharp = images.where(is_sharp).drop("rival")
    # Images of equal hashes are one node, whose name is of the hashes: two of 400 million have
    # one name with a chance of 0.4%.
    sharp = sharp.withColumn("node", F.xxhash64("phash", "pdq"))
    found = _links(sharp, settings, tasks).toArrow()
    ends = [found.column(name).to_numpy() for name in ("first", "second")]
    names, place = np.unique(np.concatenate(ends), return_inverse=True)
    lowest = components(place[: len(ends[0])], place[len(ends[0]) :], len(names))
    clusters = pa.table({"node": names, "cluster": names[lowest]})
    clustered = sharp.join(
        images.sparkSession.createDataFrame(clusters), on="node", how="left"
    ).withColumn("cluster", F.coalesce("cluster", "node"))
    clustered = _represented(clustered, "cluster")
    copies = clustered.where(F.col("rival") != F.col("pair_id"))
    copies = copies.select("pair_id", "rival", "phash", "pdq", "rival_phash", "rival_pdq")
    return copies.mapInArrow(_compared, _DROPPED_DDL)


def _compared(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        phash, rival_phash = (
            batch.column(name).to_numpy().view(np.uint64) for name in ("phash", "rival_phash")
        )
        pdq, rival_pdq = (pdq_words(batch.column(name))[0] for name in ("pdq", "rival_pdq"))
        distances = (
            np.bitwise_count(phash ^ rival_phash),
            np.bitwise_count(pdq ^ rival_pdq).sum(axis=1),
        )
        rows = batch.num_rows
        columns = [
            batch.column("pair_id"),
            pa.array(["near duplicate"] * rows, pa.string()),
            batch.column("rival"),
            pa.array(["corpus"] * rows, pa.string()),
            pa.nulls(rows, pa.string()),
            *[pa.array(apart.astype(np.int32)) for apart in distances],
        ]
        yield pa.RecordBatch.from_arrays(columns, names=DROPPED.names)


def _links(images: DataFrame, settings: DedupSettings, tasks: int) -> DataFrame:
    """Links that connect the nodes of near-duplicates.

    Hashes within so many bits agree in one of so many blocks and one more: each node goes once to
    the task of each of its blocks. All that have one pHash are there together.
    """
    runs = np.array_split(np.arange(64), settings.corpus_phash_distance + 1)
    keys = [
        F.shiftrightunsigned("phash", int(run[0])).bitwiseAND((1 << len(run)) - 1)
        if len(run) < 64
        else F.col("phash")
        for run in runs
    ]
    numbered = [F.struct(F.lit(place), key) for place, key in enumerate(keys)]
    nodes = images.select("node", "phash", "pdq").dropDuplicates(["node"])
    sent = nodes.select("node", "phash", "pdq", F.explode(F.array(*numbered)).alias("key"))
    least = int(images.sparkSession.conf.get("spark.sql.shuffle.partitions") or 1)
    sent = sent.repartition(max(tasks, least), "key").select("node", "phash", "pdq")

    def link_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        parts = [
            (
                batch.column("node").to_numpy(),
                batch.column("phash").to_numpy().view(np.uint64),
                pdq_words(batch.column("pdq"))[0],
            )
            for batch in batches
        ]
        if not parts:
            return
        name, phash, pdq = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        # A node comes once for each of its blocks that lead here.
        name, once = np.unique(name, return_index=True)
        phash, pdq = phash[once], pdq[once]
        first, second = links(phash, pdq, settings.corpus_phash_distance, settings.pdq_distance)
        ends = [pa.array(name[places]) for places in (first, second)]
        yield pa.RecordBatch.from_arrays(ends, names=["first", "second"])

    return sent.mapInArrow(link_batches, "first long, second long")


def deduped(images: DataFrame, dropped: DataFrame, settings: DedupSettings) -> DataFrame:
    """The arrived pairs that stay, with the captions of those that they represent."""
    arrived = images.where(F.col("status") == "success").select("pair_id", "caption")
    stay = arrived.join(dropped.select("pair_id"), on="pair_id", how="left_anti")
    if settings.keep_captions == "one":
        nothing = F.lit(None).cast("array<string>").alias("alternatives")
        return stay.select("pair_id", nothing)
    copies = dropped.where(F.col("reason").isin("exact duplicate", "near duplicate"))
    copies = copies.select("pair_id", "rival", "reason")
    # What represents its equals may be near to another itself.
    near = copies.where(F.col("reason") == "near duplicate")
    near = near.select(F.col("pair_id").alias("rival"), F.col("rival").alias("root"))
    copies = copies.join(near, on="rival", how="left")
    copies = copies.select("pair_id", F.coalesce("root", "rival").alias("root"))
    captions = copies.join(arrived, on="pair_id", how="inner")
    said = captions.groupBy("root").agg(F.collect_set("caption").alias("said"))
    said = said.withColumnRenamed("root", "pair_id")
    stay = stay.join(said, on="pair_id", how="left")
    others = F.array_except(F.coalesce("said", F.array().cast("array<string>")), F.array("caption"))
    return stay.select("pair_id", F.array_sort(others).alias("alternatives"))
