"""pipeline.dedup"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from pipeline.dedup import crowded, deduped, dropped, overlaps
from pipeline.placeholders import placeholders
from pipeline.settings import DedupSettings

_SETTINGS = DedupSettings(placeholder_urls=3)


def _flipped(data: bytes, bits: int) -> bytes:
    """`data` with its last `bits` bits turned over."""
    return (int.from_bytes(data) ^ (2**bits - 1)).to_bytes(32)


_ONE, _TWO = bytes(range(32)), bytes(range(100, 132))


def _tables(spark: SparkSession, pairs: dict[str, tuple[Any, ...]], evals: list[Any]) -> Any:
    """Tables of pairs (url, area, phash, pdq, quality, bytes, pixels) and of eval images.

    A pair's caption is its name.
    """
    images = [
        (name, url, name, "success", area, 1, content)
        for name, (url, area, _, _, _, content, _) in pairs.items()
    ]
    hashes = [
        (name, "corpus", "original", phash, pdq, quality, content, pixels)
        for name, (_, _, phash, pdq, quality, content, pixels) in pairs.items()
    ]
    return (
        spark.createDataFrame(
            images,
            "pair_id string, url string, caption string, status string, width int, height int, "
            "sha256 string",
        ),
        spark.createDataFrame(
            hashes + evals,
            "id string, source string, variant string, phash long, pdq binary, quality int, "
            "sha256 string, pixels_sha256 string",
        ),
    )


def test_each_kind_of_repetition_is_dropped_for_its_reason(spark: SparkSession) -> None:
    far = 0x0F0F0F0F0F0F0F0F
    pairs = {
        "leak": ("u0", 9, 0b111, _flipped(_ONE, 20), 100, "s0", "p0"),
        "flat leak": ("u1", 9, 0, _ONE, 0, "s1", "flat"),
        "same file": ("ua", 9, -1, _flipped(_ONE, 200), 3, "t1", "encoded anew"),
        "flat other": ("u2", 9, 0, _ONE, 0, "s2", "flat 2"),
        "error a": ("u3", 9, far, _TWO, 100, "error", "p3"),
        "error b": ("u4", 9, far, _TWO, 100, "error", "p3"),
        "error c": ("u5", 9, far, _TWO, 100, "error", "p3"),
        "small": ("u6", 5, far << 1, _flipped(_TWO, 1), 100, "s6", "p6"),
        "large": ("u7", 9, (far << 1) ^ 0b11, _flipped(_TWO, 31), 100, "s7", "p7"),
        "large again": ("u8", 9, (far << 1) ^ 0b11, _flipped(_TWO, 31), 100, "s7", "p7"),
        "other": ("u9", 9, (far << 1) ^ 0b1, _flipped(_TWO, 128), 100, "s9", "p9"),
    }
    evals = [
        ("e0", "set", "original", 0, _ONE, 100, "t0", "q0"),
        ("e0", "set", "flip", 0b1, _ONE, 100, None, "q1"),
        ("e1", "set", "original", 0, _ONE, 0, "t1", "flat"),
    ]
    images, fingerprints = _tables(spark, pairs, evals)
    found = overlaps(fingerprints, _SETTINGS).cache()
    rows = dropped(images, fingerprints, found, _SETTINGS).collect()
    told = {row.pair_id: (row.reason, row.rival) for row in rows}
    assert told == {
        "leak": ("evaluation overlap", "e0"),
        "flat leak": ("evaluation overlap", "e1"),
        "same file": ("evaluation overlap", "e1"),
        "error a": ("placeholder", "error a"),
        "error b": ("placeholder", "error a"),
        "error c": ("placeholder", "error a"),
        "small": ("near duplicate", "large"),
        "large again": ("exact duplicate", "large"),
    }
    nearest = {(r.pair_id, r.eval_id): r for r in found.collect()}
    assert nearest["leak", "e0"].variant == "flip"
    assert nearest["flat other", "e0"].verdict == "undecidable"


_PLACED = (
    "pair_id string, url string, caption string, sha256 string, pixels_sha256 string, "
    "pdq binary, quality int"
)


def _looks(prefix: str, *looks: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    return [
        (f"{prefix} {i}", f"{prefix}/{i}", f"{prefix} {i}", *look) for i, look in enumerate(looks)
    ]


@pytest.mark.parametrize("is_known", [True, False], ids=["with hashes", "with bytes alone"])
def test_what_looks_the_same_under_many_addresses_and_captions_is_an_error_image(
    spark: SparkSession, is_known: bool
) -> None:
    same_bytes = _looks("bytes", *[("s", "p", _ONE, 100)] * 3)
    same_pixels = _looks("pixels", *[(f"a{i}", "flat", bytes([i]) * 32, 0) for i in range(3)])
    same_hash = _looks("hash", *[(f"b{i}", f"q{i}", _TWO, 50) for i in range(3)])
    blurred = _looks("blurred", *[(f"c{i}", f"r{i}", bytes(32), 49) for i in range(3)])
    # The bytes of two and the hash of all three: one error image.
    mixed = [("m", "t", _TWO[::-1], 90), ("m", "t", _TWO[::-1], 90), ("n", "u", _TWO[::-1], 90)]
    few = _looks("few", *[("d", "v", _ONE[::-1], 100)] * 2)
    shops = [(f"shop {i}", f"shop/{i}", "a red vase", "e", "w", b"w" * 32, 99) for i in range(9)]
    captions = [(f"said {i}", "one/url", f"said {i}", "f", "x", b"x" * 32, 99) for i in range(9)]
    rows = [*same_bytes, *same_pixels, *same_hash, *blurred, *_looks("mixed", *mixed), *few]
    rows = [*rows, *shops, *captions]
    if not is_known:
        rows = [(*row[:4], None, None, None) for row in rows]
    found = placeholders(spark.createDataFrame(rows, _PLACED), _SETTINGS).collect()
    kinds = ["bytes", "hash", "mixed", "pixels"] if is_known else ["bytes"]
    assert sorted(tuple(row) for row in found) == [
        (f"{kind} {i}", f"{kind} 0") for kind in kinds for i in range(3)
    ]


def test_near_duplicates_are_a_chain_and_one_of_it_stays(spark: SparkSession) -> None:
    pairs = {
        f"pair {i}": (f"u{i}", 9, 2 ** (2 * i) - 1, _flipped(_ONE, 5 * i), 100, f"s{i}", f"p{i}")
        for i in range(5)
    }
    images, fingerprints = _tables(spark, pairs, [])
    found = overlaps(fingerprints, _SETTINGS)
    rows = dropped(images, fingerprints, found, _SETTINGS).collect()
    assert {row.pair_id for row in rows} == {f"pair {i}" for i in range(1, 5)}
    assert {row.rival for row in rows} == {"pair 0"}


_FIFTHS = 0x5555555555555555


def test_a_blocked_image_is_told_as_that_and_what_stays_keeps_all_captions(
    spark: SparkSession,
) -> None:
    pairs = {
        "blocked": ("u0", 9, _FIFTHS, _ONE, 100, "s0", "p0"),
        "opted out": ("u1", 9, 0x0F0F0F0F0F0F0F0F, _flipped(_ONE, 90), 100, "s1", "p1"),
        "leak": ("u2", 9, 0x3333333333333333, _flipped(_ONE, 160), 100, "s2", "p2"),
        "first": ("u3", 9, -1, _TWO, 100, "s3", "p3"),
        "its copy": ("u4", 8, -1, _TWO, 100, "s4", "p3"),
        "near": ("u5", 7, -4, _flipped(_TWO, 9), 100, "s5", "p5"),
        "near's copy": ("u6", 6, -4, _flipped(_TWO, 9), 100, "s6", "p5"),
        "same hashes": ("u7", 5, -4, _flipped(_TWO, 9), 100, "s7", "p7"),
        "alone": ("u8", 9, 1, bytes(32), 100, "s8", "p8"),
    }
    evals = [
        ("e0", "test", "original", _FIFTHS, _ONE, 100, "t0", "q0"),
        ("e1", "test", "pad", 0x3333333333333333, _flipped(_ONE, 163), 100, None, "q1"),
        ("h0", "hashes", "original", None, _flipped(_ONE, 12), None, None, None),
        ("h1", "wishes", "original", None, None, None, "s1", None),
    ]
    images, fingerprints = _tables(spark, pairs, evals)
    settings = DedupSettings(keep_captions="all")
    found = overlaps(fingerprints, settings).cache()
    assert crowded(found, settings) == 0
    assert crowded(found, DedupSettings(references_per_image=2)) == 1
    purposes = {"test": "evaluation", "hashes": "blocklist", "wishes": "opt-out"}
    gone = dropped(images, fingerprints, found, settings, purposes).cache()
    told = {row.pair_id: tuple(row)[1:] for row in gone.collect()}
    assert told == {
        "blocked": ("blocked image", "h0", "hashes", "original", None, 12),
        "opted out": ("opted-out image", "h1", "wishes", "original", None, None),
        "leak": ("evaluation overlap", "e1", "test", "pad", 0, 3),
        "its copy": ("exact duplicate", "first", "corpus", None, 0, 0),
        "near": ("near duplicate", "first", "corpus", None, 2, 9),
        "near's copy": ("exact duplicate", "near", "corpus", None, 0, 0),
        "same hashes": ("near duplicate", "first", "corpus", None, 2, 9),
    }
    kept = {row.pair_id: row.alternatives for row in deduped(images, gone, settings).collect()}
    assert kept == {"first": ["its copy", "near", "near's copy", "same hashes"], "alone": []}
    one = deduped(images, gone, DedupSettings()).collect()
    assert {row.pair_id: row.alternatives for row in one} == {"first": None, "alone": None}


def _told_of(frame: DataFrame) -> tuple[DataFrame, Any]:
    """The same rows, and how many of them Spark has asked for."""
    asked = frame.sparkSession.sparkContext.accumulator(0)

    def ask(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            asked.add(batch.num_rows)
            yield batch

    return frame.mapInArrow(ask, frame.schema), asked


def test_every_pair_stays_or_is_dropped_once_whatever_it_repeats(spark: SparkSession) -> None:
    random, pairs = np.random.default_rng(6), {}
    looks = [(int(random.integers(2**62)), _flipped(_ONE, 16 * i), i) for i in range(8)]
    for number in range(400):
        phash, pdq, quality = looks[random.integers(8)]
        near, apart = int(random.integers(0, 4)), int(random.integers(0, 60))
        content, pixels = (f"{kind}{random.integers(300)}" for kind in "sp")
        hashes = (phash ^ near, _flipped(pdq, apart), 40 + 10 * quality)
        if number % 9 == 0:
            odd = (None, None, None), (phash, None, 100), (phash, pdq, None)
            hashes = odd[number // 9 % 3]
        url = f"u{number % 3 if number % 2 else number}"
        pairs[f"pair {number:03}"] = (url, near, *hashes, content, pixels if number % 7 else None)
    evals = [
        ("e", "set", "original", looks[2][0], looks[2][1], 100, "s3", "p1"),
        ("e", "set", "original", looks[2][0], looks[2][1], 100, "s3", "p1"),
        ("e", "wishes", "original", looks[3][0], None, None, None, None),
        ("e", "wishes", "original", None, None, None, "s4", None),
    ]
    tables = [table.cache() for table in _tables(spark, pairs, evals)]
    images, fingerprints = (_told_of(table) for table in tables)
    settings = DedupSettings(placeholder_urls=3, keep_captions="all", references_per_image=1)
    found = overlaps(tables[1], settings).cache()
    purposes = {"wishes": "opt-out"}
    gone = dropped(images[0], fingerprints[0], found, settings, purposes).collect()
    spark.catalog.clearCache()
    # Of the whole corpus, each is a scan and a join.
    assert images[1].value <= 6 * len(pairs)
    reasons = Counter(row.reason for row in gone)
    assert len(reasons) == 6, reasons
    table = spark.createDataFrame(gone, "pair_id string, reason string, rival string, "
        "source string, variant string, phash_distance int, pdq_distance int")  # fmt: skip
    stay = [row.pair_id for row in deduped(tables[0], table, settings).collect()]
    assert sorted([*stay, *(row.pair_id for row in gone)]) == sorted(pairs)
    parted = [table.repartition(7, "sha256") for table in tables]
    again = dropped(*parted, overlaps(parted[1], settings), settings, purposes).collect()
    assert sorted(map(str, again)) == sorted(map(str, gone))
    spark.catalog.clearCache()
