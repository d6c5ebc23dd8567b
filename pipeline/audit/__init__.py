"""Audit: which evaluation images the crawl held, how near, and that the shards hold them no more.

reads   overlaps, dropped, shards, fingerprints, decisions, predictions
writes  audit

CLIP section 5 reports, for each evaluation set, the share of its images that the corpus overlaps.
"""

from collections.abc import Set
from dataclasses import asdict, dataclass
from math import expm1, log1p
from statistics import fmean, median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.audit.gathered import Gathered
from pipeline.audit.measured import Chance, chance
from pipeline.intervals import interval
from pipeline.settings import AuditSettings, DedupSettings

SMALL_SIDE = 32
"""Pixels: an image whose shorter side has no more holds less than the hashes look at."""
PDQ_STEPS = (0, 8, 16, 24, 31, 40, 48, 56, 64, 72, 80, 90, 128, 192)
"""Distances of the curve over PDQ's 256 bits, as far as there are candidates."""


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
    partial: int = 0
    """Hashes of a list that gives pHash or PDQ and not both: no rate was measured for them."""
    digest: str = ""
    """What the set's fingerprints are known by, in any order (pipeline.digests)."""


@dataclass(frozen=True)
class Point:
    """Of a threshold curve."""

    distance: int
    images: int
    """Evaluation images with something within the distance."""
    expected_by_chance: float | None
    """How many would have, were nothing of the set in the corpus; None where no rate is known."""
    at_most: bool
    """That is a bound: so near was nothing that was measured, or the rate is of a wider one."""


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


def summary(
    gathered: Gathered,
    counts: dict[str, EvalCount],
    corpus_images: int,
    removed: Set[str],
    in_shards: Set[str],
    settings: AuditSettings,
    dedup: DedupSettings,
) -> list[Overlap]:
    """One Overlap for each evaluation set of `counts`."""
    all_sure = gathered.sure()
    lines = []
    for name, count in sorted(counts.items()):
        images = gathered.images(name)
        pairs = set(all_sure.filter(pc.field("source") == name).column("pair_id").to_pylist())
        unsure = images.filter(~pc.field("sure")) if images.num_rows else images
        found = images.num_rows - unsure.num_rows
        candidates = pc.sum(unsure.column("open")).as_py() or 0 if unsure.num_rows else 0
        low, high = interval(found, count.images, settings.confidence)
        by_phash, by_pdq = _curves(images, count, corpus_images, dedup)
        lines.append(
            Overlap(
                evalset=name,
                images=count.images,
                overlapping=found,
                ratio=found / count.images if count.images else 0.0,
                low=low,
                high=high,
                undecidable=count.flat,
                undecidable_near=unsure.num_rows - candidates,
                small=count.small,
                is_small=2 * count.small > count.images,
                candidates=candidates,
                removed_pairs=len(pairs & removed),
                leaked_pairs=len(pairs & in_shards),
                decided_pairs=gathered.decided[name],
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


def overlapping(sure: pa.Table, name: str) -> list[str]:
    """The images of a set that overlap, in the order of their names."""
    of_set = sure.filter(pc.field("source") == name)
    return sorted(of_set.column("eval_id").unique().to_pylist())


def as_json(lines: list[Overlap]) -> list[dict[str, Any]]:
    """The lines as plain values."""
    return [asdict(line) for line in lines]


def _curves(
    images: pa.Table, count: EvalCount, corpus_images: int, dedup: DedupSettings
) -> tuple[list[Point], list[Point]]:
    """Evaluation images with something within each distance, and how many chance alone brings."""
    most, most_pdq = dedup.candidate_distance, dedup.candidate_pdq_distance
    by_pdq = [*[at for at in PDQ_STEPS if at < most_pdq], most_pdq]
    curves = []
    for name, events in (
        ("phash_distance", {at: chance(at, most_pdq) for at in range(most + 1)}),
        ("pdq_distance", {at: chance(most, at) for at in by_pdq}),
    ):
        column = images.column(name).drop_null() if images.num_rows else pa.array([], pa.int32())
        nearest = column.to_numpy()
        curves.append([_point(nearest, at, c, count, corpus_images) for at, c in events.items()])
    return curves[0], curves[1]


def _point(
    nearest: NDArray[np.int32],
    distance: int,
    of_one: Chance | None,
    count: EvalCount,
    corpus_images: int,
) -> Point:
    found = int((nearest <= distance).sum())
    if of_one is None or count.partial:
        return Point(distance, found, None, at_most=False)
    images = max(1, count.images)
    comparisons = corpus_images * count.hashes / images
    return Point(
        distance, found, images * -expm1(comparisons * log1p(-of_one.rate)), of_one.at_most
    )
