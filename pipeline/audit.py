"""Audit: which evaluation images the crawl held, how near, and that the shards hold them no more.

reads   overlaps, dropped, shards, fingerprints
writes  audit

CLIP section 5 reports, for each evaluation set, the share of its images that the corpus overlaps.
"""

from dataclasses import asdict, dataclass
from math import expm1, log1p
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.intervals import interval
from pipeline.schemas import AUDIT
from pipeline.settings import AuditSettings, DedupSettings

# Measured on 1.04e10 pairs of unrelated photos; docs/decisions.md#near-duplicates.
FALSE_POSITIVES = {0: 1e-10, 2: 2.3e-9, 4: 2.7e-8, 8: 9.8e-7}
"""Chance that two unrelated images come within so many bits of pHash, for one comparison."""

CLIP_REFERENCE = {"sets": 35, "median_overlap": 0.022, "mean_overlap": 0.032, "without": 9}
"""What CLIP found in its own corpus (section 5)."""


@dataclass(frozen=True)
class EvalCount:
    """How many images of an evaluation set were looked for."""

    images: int
    hashes: int
    """With every variant."""
    flat: int
    """Images that are too flat for hashes."""
    small: int
    """Images whose shorter side has at most 32 pixels."""


@dataclass(frozen=True)
class Overlap:
    """One evaluation set's line of the report."""

    evalset: str
    images: int
    overlapping: int
    ratio: float
    low: float
    high: float
    undecidable: int
    candidates: int
    removed_pairs: int
    leaked_pairs: int
    curve: list[dict[str, float]]


def mark_removed(overlaps: pa.Table, removed_pairs: set[str]) -> pa.Table:
    """The overlaps, with whether dedup took the pair out."""
    gone = pa.array(sorted(removed_pairs), pa.string())
    removed = pc.is_in(overlaps.column("pair_id"), value_set=gone)
    rows = overlaps.append_column("removed", removed).cast(AUDIT)
    return rows.sort_by(
        [("source", "ascending"), ("eval_id", "ascending"), ("pair_id", "ascending")]
    )


def summary(
    audited: pa.Table,
    counts: dict[str, EvalCount],
    corpus_images: int,
    in_shards: set[str],
    settings: AuditSettings,
    dedup: DedupSettings,
) -> list[Overlap]:
    """One Overlap for each evaluation set of `counts`."""
    rows = audited.to_pylist()
    lines = []
    for name, count in sorted(counts.items()):
        of_set = [row for row in rows if row["source"] == name]
        sure = [row for row in of_set if row["verdict"] == "overlap"]
        overlapping = {row["eval_id"] for row in sure}
        low, high = interval(len(overlapping), count.images, settings.confidence)
        lines.append(
            Overlap(
                evalset=name,
                images=count.images,
                overlapping=len(overlapping),
                ratio=len(overlapping) / count.images if count.images else 0.0,
                low=low,
                high=high,
                undecidable=count.flat,
                candidates=len({r["eval_id"] for r in of_set} - overlapping),
                removed_pairs=len({r["pair_id"] for r in sure if r["removed"]}),
                leaked_pairs=len({r["pair_id"] for r in sure} & in_shards),
                curve=_curve(of_set, count, corpus_images, dedup.candidate_distance),
            )
        )
    return lines


def _curve(
    rows: list[dict[str, Any]], count: EvalCount, corpus_images: int, radius: int
) -> list[dict[str, float]]:
    """Evaluation images with something within each distance, and how many chance alone brings."""
    images = max(1, count.images)
    comparisons = corpus_images * count.hashes / images
    nearest: dict[str, int] = {}
    for row in rows:
        near = row["phash_distance"]
        nearest[row["eval_id"]] = min(near, nearest.get(row["eval_id"], near))
    return [
        {
            "distance": distance,
            "images": sum(near <= distance for near in nearest.values()),
            "expected_by_chance": images * -expm1(comparisons * log1p(-_false_positives(distance))),
        }
        for distance in range(radius + 1)
    ]


def _false_positives(distance: int) -> float:
    """The measured rate, or that of the next larger distance that was measured."""
    known = [rate for at, rate in FALSE_POSITIVES.items() if at >= distance]
    return min(known, default=max(FALSE_POSITIVES.values()))


def as_json(lines: list[Overlap]) -> list[dict[str, Any]]:
    """The lines as plain values."""
    return [asdict(line) for line in lines]
