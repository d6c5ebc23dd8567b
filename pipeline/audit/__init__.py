"""Audit: which evaluation images the crawl held, how near, and that the shards hold them no more.

reads   overlaps, dropped, shards, fingerprints, decisions, predictions
writes  audit

CLIP section 5 reports, for each evaluation set, the share of its images that the corpus overlaps.
"""

from dataclasses import asdict, dataclass
from math import expm1, log1p
from statistics import fmean, median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.audit.measured import pdq_chance, phash_chance
from pipeline.intervals import interval
from pipeline.schemas import AUDIT
from pipeline.settings import AuditSettings, DedupSettings

SMALL_SIDE = 32
"""Pixels: an image whose shorter side has no more holds less than the hashes look at."""
PDQ_STEPS = (0, 8, 16, 24, 31, 40, 48, 56, 64, 80, 96, 128)
"""Distances of the curve over PDQ's 256 bits."""


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
class Point:
    """Of a threshold curve."""

    distance: int
    images: int
    """Evaluation images with something within the distance."""
    expected_by_chance: float
    """How many would have, were nothing of the set in the corpus; for PDQ at most so many."""


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
    """Images too flat for hashes."""
    undecidable_near: int
    """Those of them that something came near to, and no equal pixels."""
    small: int
    is_small: bool
    """Most of its images are small: near hashes say less than elsewhere."""
    candidates: int
    """Images that something came near to, and nothing was confirmed."""
    removed_pairs: int
    leaked_pairs: int
    decided_pairs: int
    curve: list[Point]
    """Over pHash."""
    pdq_curve: list[Point]


def marked(decided: pa.Table, removed_pairs: set[str]) -> pa.Table:
    """The overlaps, with whether dedup took the pair out. They have a column `decided`."""
    gone = pa.array(sorted(removed_pairs), pa.string())
    removed = pc.is_in(decided.column("pair_id"), value_set=gone)
    return in_order(decided.append_column("removed", removed).select(AUDIT.names).cast(AUDIT))


def in_order(rows: pa.Table) -> pa.Table:
    """The overlaps by set, image and pair."""
    return rows.sort_by([(name, "ascending") for name in ("source", "eval_id", "pair_id")])


def summary(
    audited: pa.Table,
    counts: dict[str, EvalCount],
    corpus_images: int,
    in_shards: set[str],
    settings: AuditSettings,
    dedup: DedupSettings,
) -> list[Overlap]:
    """One Overlap for each evaluation set of `counts`."""
    kept = pa.array(sorted(in_shards), pa.string())
    lines = []
    for name, count in sorted(counts.items()):
        of_set = audited.filter(pc.equal(audited.column("source"), name))
        verdict = of_set.column("verdict")
        sure = of_set.filter(pc.equal(verdict, "overlap"))
        overlapping = sure.column("eval_id").unique()
        unsure = of_set.filter(pc.invert(pc.is_in(of_set.column("eval_id"), overlapping)))
        has_hash = pc.not_equal(unsure.column("verdict"), "undecidable")
        candidates = _distinct(unsure.filter(has_hash), "eval_id")
        found = len(overlapping)
        low, high = interval(found, count.images, settings.confidence)
        by_phash, by_pdq = _curves(of_set, count, corpus_images, dedup.candidate_distance)
        lines.append(
            Overlap(
                evalset=name,
                images=count.images,
                overlapping=found,
                ratio=found / count.images if count.images else 0.0,
                low=low,
                high=high,
                undecidable=count.flat,
                undecidable_near=_distinct(unsure, "eval_id") - candidates,
                small=count.small,
                is_small=2 * count.small > count.images,
                candidates=candidates,
                removed_pairs=_distinct(sure.filter(sure.column("removed")), "pair_id"),
                leaked_pairs=_distinct(
                    sure.filter(pc.is_in(sure.column("pair_id"), kept)), "pair_id"
                ),
                decided_pairs=len(of_set) - of_set.column("decided").null_count,
                curve=by_phash,
                pdq_curve=by_pdq,
            )
        )
    return lines


def over_sets(lines: list[Overlap]) -> dict[str, Any]:
    """What CLIP tells of all its sets, of these."""
    ratios = [line.ratio for line in lines if line.images]
    return {
        "sets": len(ratios),
        "median_overlap": median(ratios) if ratios else None,
        "mean_overlap": fmean(ratios) if ratios else None,
        "without": sum(ratio == 0 for ratio in ratios),
    }


def overlapping(audited: pa.Table, name: str) -> list[str]:
    """The images of a set that overlap, in the order of their names."""
    is_of_set = pc.equal(audited.column("source"), name)
    is_sure = pc.equal(audited.column("verdict"), "overlap")
    names = audited.filter(pc.and_(is_of_set, is_sure)).column("eval_id").unique()
    return sorted(names.to_pylist())


def as_json(lines: list[Overlap]) -> list[dict[str, Any]]:
    """The lines as plain values."""
    return [asdict(line) for line in lines]


def _distinct(rows: pa.Table, column: str) -> int:
    return int(pc.count_distinct(rows.column(column)).as_py())


def _curves(
    rows: pa.Table, count: EvalCount, corpus_images: int, radius: int
) -> tuple[list[Point], list[Point]]:
    """Evaluation images with something within each distance, and how many chance alone brings."""
    near = rows.group_by("eval_id").aggregate([("phash_distance", "min")])
    # Flat images are left out: all of them are near to one another.
    has_hash = rows.filter(pc.not_equal(rows.column("verdict"), "undecidable"))
    confirmed = has_hash.group_by("eval_id").aggregate([("pdq_distance", "min")])
    by_phash = _points(
        near.column("phash_distance_min").to_numpy(),
        {distance: phash_chance(distance) for distance in range(radius + 1)},
        count,
        corpus_images,
    )
    by_pdq = _points(
        confirmed.column("pdq_distance_min").to_numpy(),
        {distance: pdq_chance(distance, radius) for distance in PDQ_STEPS},
        count,
        corpus_images,
    )
    return by_phash, by_pdq


def _points(
    nearest: NDArray[np.int32], chances: dict[int, float], count: EvalCount, corpus_images: int
) -> list[Point]:
    images = max(1, count.images)
    comparisons = corpus_images * count.hashes / images
    return [
        Point(
            distance,
            int((nearest <= distance).sum()),
            images * -expm1(comparisons * log1p(-chance)),
        )
        for distance, chance in chances.items()
    ]
