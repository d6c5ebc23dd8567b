"""Second look: what the hashes find near is laid over the other image, pixel by pixel.

reads   overlaps or dropped, the places of their images in tars, fingerprints
writes  overlaps, dropped

Hashes leave pairs that are near and not confirmed, and confirm drawings that only share a shape
and pictures of other colours.
An image that is gone or broken leaves the verdict as it was; a tar that is there and is not read
ends the task.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipeline.decoding import decode
from pipeline.raw_shards import RawTars
from pipeline.schemas import DROPPED, OVERLAPS
from pipeline.settings import DedupSettings
from pipeline.similarity import is_copy, is_drawn, look, similarity, size_of
from pipeline.variants import starts

_PLACE = ("path", "offset", "bytes")


def second_look(
    overlaps: DataFrame, places: DataFrame, fingerprints: DataFrame, settings: DedupSettings
) -> DataFrame:
    """The overlaps, with the similarity of those that need it and the verdict that follows.

    `places` has pair_id, path, offset and bytes: where each image lies in a tar. The overlaps are
    kept on disk, until the caller clears Spark's cache.
    """
    is_original = (F.col("variant") == "original") & F.col("look").isNotNull()
    known = fingerprints.where((F.col("source") != "corpus") & is_original)
    known = known.select("source", F.col("id").alias("eval_id"), "look")
    places = places.select("pair_id", "path", "offset", "bytes")
    # They are asked for twice, and each time the whole corpus would be searched.
    overlaps = overlaps.persist(StorageLevel.DISK_ONLY)
    open_ones = overlaps.where(F.col("verdict").isin("candidate", "overlap"))
    closed = overlaps.where(~F.col("verdict").isin("candidate", "overlap"))
    closed = closed.select(*OVERLAPS.names)
    # An evaluation image that half the web copies must not fill one task: candidates are spread
    # by their own images, each of which is then read from its tar in one place.
    placed = open_ones.join(places, on="pair_id", how="left")
    seen = placed.join(known, on=["source", "eval_id"], how="left")
    seen = seen.repartition("path", "pair_id").sortWithinPartitions("path", "offset", "pair_id")

    def look_again(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        raw_tars = RawTars()
        for batch in batches:
            yield _decided(batch, settings, raw_tars)

    decided = seen.mapInArrow(look_again, closed.schema)
    return closed.unionByName(decided)


def confirmed(near: DataFrame, places: DataFrame) -> DataFrame:
    """The near-duplicates among dropped pairs, without those that are another picture than their
    rival: of other colours, or with something else in a small place. `places` is that of
    `second_look`."""
    own = places.select("pair_id", *_PLACE)
    names = {"pair_id": "rival", **{name: f"rival_{name}" for name in _PLACE}}
    its = places.select(*[F.col(name).alias(its_name) for name, its_name in names.items()])
    placed = near.join(own, on="pair_id", how="left").join(its, on="rival", how="left")
    placed = placed.repartition("path", "pair_id")
    placed = placed.sortWithinPartitions("path", "offset", "pair_id")

    def compare(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        raw_tars = RawTars()
        for batch in batches:
            is_kept = [_is_confirmed(row, raw_tars) for row in batch.to_pylist()]
            yield batch.filter(pa.array(is_kept, pa.bool_())).select(DROPPED.names)

    return placed.mapInArrow(compare, near.select(*DROPPED.names).schema)


def _is_confirmed(row: Mapping[str, Any], raw_tars: RawTars) -> bool:
    if row["path"] is None or row["rival_path"] is None:
        return True
    own = _look_at(raw_tars, row["path"], row["offset"], row["bytes"])
    its = _look_at(raw_tars, row["rival_path"], row["rival_offset"], row["rival_bytes"])
    if own is None or its is None:
        return True
    return is_copy(its, own, starts("original", *size_of(its)))


def _decided(batch: pa.RecordBatch, settings: DedupSettings, raw_tars: RawTars) -> pa.RecordBatch:
    rows = batch.to_pylist()
    last: tuple[str | None, bytes | None] = (None, None)
    for row in rows:
        known = row["look"]
        if known is None or row["path"] is None or not needs_look(row, known):
            continue
        if last[0] != row["pair_id"]:
            last = row["pair_id"], _look_at(raw_tars, row["path"], row["offset"], row["bytes"])
        if last[1] is not None:
            found = of_looks(known, last[1], row["variant"])
            row["similarity"] = found
            row["verdict"] = verdict(row["verdict"], found, settings)
    columns = [pa.array([row[f.name] for row in rows], f.type) for f in OVERLAPS]
    return pa.RecordBatch.from_arrays(columns, names=OVERLAPS.names)


def needs_look(row: Mapping[str, Any], known: bytes) -> bool:
    """Whether hashes do not settle an overlap of an evaluation image that looks like `known`."""
    if row["similarity"] is not None:  # bytes or pixels are equal
        return False
    return row["verdict"] == "candidate" or (row["verdict"] == "overlap" and is_drawn(known))


def _look_at(raw_tars: RawTars, path: str, offset: int, size: int) -> bytes | None:
    try:
        data = raw_tars.read(path, offset, size)
    except FileNotFoundError:  # the tar is gone: what the hashes said stands
        return None
    image = decode(data)
    return None if image is None else look(image)


def of_looks(known: bytes, seen: bytes, variant: str) -> float | None:
    """The similarity of an evaluation image and one that a variant of it is near; None where there
    is too little to compare."""
    found = similarity(known, seen, starts(variant, *size_of(known)))
    return None if math.isnan(found) else found


def verdict(by_hashes: str, found: float | None, settings: DedupSettings) -> str:
    """What the hashes and the second look say together."""
    if found is None:
        return by_hashes
    return "overlap" if found >= settings.min_similarity else "candidate"
