"""Fingerprint: perceptual hashes of every image, of the corpus and of the evaluation sets.

reads   images, evaluation sets
writes  fingerprints

Downloaded images may bring theirs along; the others are read and decoded here.
"""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image, ImageOps
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pipeline import evalsets, tars
from pipeline.decoding import decode
from pipeline.hashes import of_image
from pipeline.schemas import FINGERPRINTS
from pipeline.settings import EvalSet, FingerprintSettings

REASONS = ("undecodable",)
_ROW = pa.schema([*FINGERPRINTS, pa.field("dropped_for", pa.string())])
_HASHES = ("phash", "pdq", "quality", "sha256", "pixels_sha256")
_DDL = (
    "id string, source string, variant string, phash long, pdq binary, quality int, "
    "sha256 string, pixels_sha256 string, side int, look binary, dropped_for string"
)


def _inner(image: Image.Image, share: float) -> Image.Image:
    dx, dy = image.width * (1 - share) / 2, image.height * (1 - share) / 2
    return image.crop((round(dx), round(dy), round(image.width - dx), round(image.height - dy)))


def _square(image: Image.Image) -> Image.Image:
    return ImageOps.fit(image, (min(image.size), min(image.size)))


def _pad(image: Image.Image) -> Image.Image:
    side = max(image.size)
    padded = Image.new("RGB", (side, side), "white")
    padded.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return padded


VARIANTS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "flip": ImageOps.mirror,
    "square": _square,
    "crop90": lambda image: _inner(image, 0.9),
    "crop80": lambda image: _inner(image, 0.8),
    "pad": _pad,
}
"""The transformations that hashes do not survive, so that the eval set is indexed with them."""


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
            for row in batch.to_pylist():
                data = read_image(folder, row)
                rows.append(_row(row["pair_id"], "corpus", "original", row["sha256"], decode(data)))
            yield _batch(rows)

    return hashed.unionByName(unhashed.mapInArrow(hash_batches, _DDL))


def read_image(folder: str, row: dict[str, Any]) -> bytes:
    """The bytes of one image, from its raw shard."""
    return tars.read(Path(folder, f"{row['raw_shard']:05d}.tar"), row["offset"], row["bytes"])


def evaluation(
    spark: SparkSession, sets: list[EvalSet], settings: FingerprintSettings, tasks: int
) -> DataFrame:
    """The fingerprints of every image of the evaluation sets' splits, and of its variants."""
    shares = [(place, task) for place in range(len(sets)) for task in range(tasks)]
    work = spark.createDataFrame(shares, "place int, task int")
    work = work.repartitionByRange(max(1, len(shares)), "place", "task")

    def hash_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for share in batch.to_pylist():
                evalset = sets[share["place"]]
                for number, image in enumerate(evalsets.images(evalset, evalset.split)):
                    if number % tasks == share["task"]:
                        yield _batch(_eval_rows(evalset, image, settings))

    return work.mapInArrow(hash_batches, _DDL)


def _eval_rows(
    evalset: EvalSet, image: evalsets.EvalImage, settings: FingerprintSettings
) -> list[tuple[Any, ...]]:
    digest = hashlib.sha256(image.data).hexdigest()
    decoded = decode(image.data)
    rows = [_row(image.name, evalset.name, "original", digest, decoded)]
    if decoded is not None:
        for variant in settings.variants:
            seen = VARIANTS[variant](decoded)
            rows.append(_row(image.name, evalset.name, variant, None, seen))
    return rows


def _row(
    name: str, source: str, variant: str, digest: str | None, image: Image.Image | None
) -> tuple[Any, ...]:
    if image is None:
        return name, source, variant, None, None, None, digest, None, None, None, "undecodable"
    found = of_image(image)
    hashes = found.phash, found.pdq, found.quality, digest, found.pixels_sha256
    return name, source, variant, *hashes, min(image.size), None, None


def _batch(rows: list[tuple[Any, ...]]) -> pa.RecordBatch:
    columns = [pa.array([row[i] for row in rows], field.type) for i, field in enumerate(_ROW)]
    names = _ROW.names
    return pa.RecordBatch.from_arrays(columns, names=names)
