"""Counted: the images of evaluation sets that were looked for, from their fingerprints in parts."""

from collections import Counter
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.audit import SMALL_SIDE, EvalCount
from pipeline.digests import Digest

KNOWN_BY = ("source", "id", "variant", "phash", "pdq", "sha256", "pixels_sha256")
COLUMNS = (*KNOWN_BY, "quality", "side")
"""Of schemas.FINGERPRINTS: what `counts` reads."""


def counts(
    batches: Iterable[pa.RecordBatch], names: Sequence[str], min_quality: int
) -> dict[str, EvalCount]:
    """By evaluation set: its images, its hashes with every variant, the flat and small ones."""
    told: dict[str, Counter[str]] = {
        what: Counter() for what in ("images", "hashes", "flat", "small", "partial")
    }
    digests = {name: Digest() for name in names}
    for batch in batches:
        rows = pa.Table.from_batches([batch])
        images = rows.filter(pc.field("variant") == "original")
        is_partial = pc.xor(pc.is_null(rows.column("phash")), pc.is_null(rows.column("pdq")))
        parts = {
            "images": images,
            "hashes": rows,
            "flat": images.filter(pc.field("quality") < min_quality),
            "small": images.filter(pc.field("side") <= SMALL_SIDE),
            "partial": rows.filter(is_partial),
        }
        for what, part in parts.items():
            for found in pc.value_counts(part.column("source")).to_pylist():
                told[what][found["values"]] += found["counts"]
        for name in pc.unique(rows.column("source")).to_pylist():
            if name in digests:
                own = rows.filter(pc.field("source") == name)
                digests[name].add([own.column(column) for column in KNOWN_BY])
    return {
        name: EvalCount(
            images=told["images"][name],
            hashes=told["hashes"][name],
            flat=told["flat"][name],
            small=told["small"][name],
            partial=told["partial"][name],
            digest=digests[name].hexdigest(),
        )
        for name in names
    }


def digest_of(columns: Iterable[pa.Array]) -> str:
    """What a corpus is known by, from the SHA-256 of its images' bytes."""
    found = Digest()
    for column in columns:
        found.add_hashes(column)
    return found.hexdigest()
