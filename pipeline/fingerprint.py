"""Fingerprint: perceptual hashes of every image, of the corpus and of the evaluation sets.

reads   images, evaluation sets
writes  fingerprints

Downloaded images may bring theirs along; the others are read and decoded here. What one picture
needs is public too: to decode and hash it, and to make its variants.
"""

import hashlib
import pickle
from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from operator import itemgetter
from typing import Any

import pyarrow as pa
from PIL import Image
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pipeline import evalsets, inputs, storage
from pipeline.decoding import decode
from pipeline.hashes import as_imagehash, of_image, of_imagehash, of_pixels
from pipeline.pdq import compute as pdq
from pipeline.phash import phash, phash_batch, phash_fast, phash_of_jpeg
from pipeline.raw_shards import raw_tar, read_all
from pipeline.schemas import FINGERPRINTS
from pipeline.settings import EvalSet, FingerprintSettings
from pipeline.similarity import look
from pipeline.variants import basis, varied

__all__ = [
    "as_imagehash",
    "corpus",
    "decode",
    "evaluation",
    "images_of_sets",
    "of_image",
    "of_imagehash",
    "of_pixels",
    "pdq",
    "phash",
    "phash_batch",
    "phash_fast",
    "phash_of_jpeg",
    "places",
    "read_image",
    "variants",
]

REASONS = ("undecodable",)
_BATCH = 4096
"""Hashes of a list that are held at once: lists of what is blocked are long."""
_ROW = pa.schema([*FINGERPRINTS, pa.field("dropped_for", pa.string())])
_HASHES = ("phash", "pdq", "quality", "sha256", "pixels_sha256")
_DDL = (
    "id string, source string, variant string, phash long, pdq binary, quality int, "
    "sha256 string, pixels_sha256 string, side int, look binary, dropped_for string"
)


def variants(image: Image.Image, names: Iterable[str]) -> Iterator[tuple[str, Image.Image]]:
    """The transformations of an RGB image that its hashes do not survive, by name: all that there
    are is `pipeline.variants.VARIANTS`."""
    small = basis(image)
    for name in names:
        yield name, varied(small, name)


def corpus(images: DataFrame, folder: str) -> DataFrame:
    """The fingerprint of every downloaded image. Those that were hashed when they were downloaded
    pass through; the bytes of the others are read from the tars in `folder`."""
    arrived = images.where(F.col("status") == "success")
    hashed = arrived.where(F.col("phash").isNotNull()).select(
        F.col("pair_id").alias("id"),
        F.lit("corpus").alias("source"),
        F.lit("original").alias("variant"),
        *_HASHES,
        F.least("width", "height").alias("side"),
        F.lit(None).cast("binary").alias("look"),
        F.lit(None).cast("string").alias("dropped_for"),
    )
    unhashed = arrived.where(F.col("phash").isNull())
    unhashed = unhashed.select("pair_id", "raw_shard", "offset", "bytes", "sha256")

    def hash_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            rows = []
            told = batch.to_pylist()
            for row, data in zip(told, _images(folder, told), strict=True):
                rows.append(_row(row["pair_id"], "corpus", "original", row["sha256"], decode(data)))
            yield _batch(rows)

    return hashed.unionByName(unhashed.mapInArrow(hash_batches, _DDL))


def places(images: DataFrame, folder: str) -> DataFrame:
    """Where each downloaded image lies in the tars of `folder`: pair_id, path, offset, bytes.

    In a store a tar has another name, which pipeline.raw_shards finds by this path.
    """
    arrived = images.where(F.col("status") == "success")
    path = F.format_string(f"{folder.replace('%', '%%')}/%05d.tar", "raw_shard")
    return arrived.select("pair_id", path.alias("path"), "offset", "bytes")


def read_image(folder: str, row: dict[str, Any]) -> bytes:
    """The bytes of one image, from its raw shard."""
    return next(_images(folder, [row]))


def _images(folder: str, rows: list[dict[str, Any]]) -> Iterator[bytes]:
    """The bytes of each image, from its raw shard."""
    for raw_shard, of_tar in groupby(rows, key=itemgetter("raw_shard")):
        asked = [(row["offset"], row["bytes"]) for row in of_tar]
        yield from read_all(raw_tar(storage.place(folder), raw_shard), asked)


def evaluation(
    spark: SparkSession, sets: list[EvalSet], settings: FingerprintSettings, tasks: int
) -> DataFrame:
    """The fingerprints of every image of the sets' splits, and of its variants; and of lists of
    hashes what they say."""
    work = [(number, *share) for number, share in enumerate(_shares(sets))]
    shares = spark.createDataFrame(work, "number int, place int, part binary")
    # Spark maps an id to the partition of that number.
    tasks = min(tasks, len(work))
    shares = shares.repartitionById(max(1, tasks), F.col("number") % max(1, tasks))

    def hash_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for share in batch.to_pylist():
                evalset = sets[share["place"]]
                if share["part"] is None:
                    inputs.expect(evalset.path)
                    listed = (_listed(evalset, known) for known in evalsets.hashes(evalset))
                    while rows := list(islice(listed, _BATCH)):
                        yield _batch(rows)
                    continue
                # Written by the driver, a moment ago.
                part: evalsets.Part = pickle.loads(share["part"])  # noqa: S301
                for image in evalsets.read(part):
                    yield _batch(_eval_rows(evalset, image, settings))

    return shares.mapInArrow(hash_batches, _DDL)


def _shares(sets: list[EvalSet]) -> Iterator[tuple[int, bytes | None]]:
    """A set's place and a part of it; without a part a list of hashes."""
    for place, evalset in enumerate(sets):
        if evalsets.format_of(evalset) == "hashes":
            yield place, None
            continue
        for part in evalsets.parts(evalset, evalset.split):
            yield place, pickle.dumps(part)


def images_of_sets(fingerprints: DataFrame) -> dict[str, int]:
    """How many images of each evaluation set were hashed."""
    is_image = (F.col("source") != "corpus") & (F.col("variant") == "original")
    counted = fingerprints.where(is_image).groupBy("source").count().collect()
    return {row["source"]: row["count"] for row in counted}


def _listed(evalset: EvalSet, known: evalsets.EvalHash) -> tuple[Any, ...]:
    hashes = known.phash, known.pdq, known.quality, known.sha256
    return known.name, evalset.name, "original", *hashes, None, None, None, None


def _eval_rows(
    evalset: EvalSet, image: evalsets.EvalImage, settings: FingerprintSettings
) -> list[tuple[Any, ...]]:
    digest = hashlib.sha256(image.data).hexdigest()
    decoded = decode(image.data)
    seen_again = None if decoded is None else look(decoded)
    rows = [_row(image.name, evalset.name, "original", digest, decoded, seen_again)]
    if decoded is not None:
        for variant, seen in variants(decoded, settings.variants):
            rows.append(_row(image.name, evalset.name, variant, None, seen))
    return rows


def _row(
    name: str,
    source: str,
    variant: str,
    digest: str | None,
    image: Image.Image | None,
    seen_again: bytes | None = None,
) -> tuple[Any, ...]:
    if image is None:
        return name, source, variant, None, None, None, digest, None, None, None, "undecodable"
    found = of_image(image)
    hashes = found.phash, found.pdq, found.quality, digest, found.pixels_sha256
    return name, source, variant, *hashes, min(image.size), seen_again, None


def _batch(rows: list[tuple[Any, ...]]) -> pa.RecordBatch:
    columns = [pa.array([row[i] for row in rows], field.type) for i, field in enumerate(_ROW)]
    names = _ROW.names
    return pa.RecordBatch.from_arrays(columns, names=names)
