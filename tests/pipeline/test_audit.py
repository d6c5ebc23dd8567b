"""pipeline.audit"""

import random
from typing import Any

import pyarrow as pa
import pytest
from scipy.stats import beta

from pipeline.audit import EvalCount, Overlap, measured, over_sets, summary
from pipeline.audit.counted import COLUMNS, counts
from pipeline.audit.gathered import Gathered, PerImage
from pipeline.decisions import Decisions
from pipeline.intervals import interval
from pipeline.schemas import FINGERPRINTS, OVERLAPS
from pipeline.settings import AuditSettings, DedupSettings, EvalSet

NONE = Decisions("", {}, {})
SETS = [EvalSet(name=name, path="nowhere") for name in ("set", "clean")]
Row = tuple[Any, ...]


def _gathered(
    rows: list[Row], taken: Decisions = NONE, *, shown: int = 24, at_a_time: int = 2
) -> Gathered:
    columns = list(map(list, zip(*rows, strict=True))) if rows else [[] for _ in OVERLAPS]
    gathered = Gathered(SETS, taken, shown)
    for batch in pa.table(columns, schema=OVERLAPS).to_batches(max_chunksize=at_a_time):
        gathered.add(batch)
    return gathered


def _told(
    gathered: Gathered,
    counted: dict[str, EvalCount],
    images: int = 100,
    *,
    removed: frozenset[str] = frozenset(),
    kept: frozenset[str] = frozenset(),
    **dedup: int,
) -> list[Overlap]:
    settings = AuditSettings(), DedupSettings(**dedup)
    return summary(gathered, counted, images, removed, kept, *settings)


def test_the_interval_is_that_of_clopper_and_pearson() -> None:
    low, high = interval(3, 100, 0.995)
    assert low == pytest.approx(beta.ppf(0.0025, 3, 98))
    assert high == pytest.approx(beta.ppf(0.9975, 4, 97))
    assert interval(0, 0, 0.995) == (0.0, 1.0)


def test_a_set_is_told_by_its_images_and_what_is_left_in_the_shards() -> None:
    rows = [
        ("p0", "set", "e0", "original", 0, 3, None, "overlap"),
        ("p1", "set", "e0", "flip", 4, 20, None, "overlap"),
        ("p2", "set", "e1", "original", 7, 90, None, "candidate"),
    ]
    of_sets = {
        "set": EvalCount(images=10, hashes=20, flat=1, small=0),
        "clean": EvalCount(images=5, hashes=5, flat=5, small=0),
    }
    removed, kept = frozenset({"p0"}), frozenset({"p1", "p9"})
    clean, line = _told(_gathered(rows), of_sets, removed=removed, kept=kept)
    assert (line.overlapping, line.ratio, line.candidates) == (1, 0.1, 1)
    assert (line.removed_pairs, line.leaked_pairs, line.undecidable) == (1, 1, 1)
    assert [point.images for point in line.curve] == [1, 1, 1, 1, 1, 1, 1, 2, 2]
    assert clean.overlapping == 0


def test_the_curves_tell_what_is_near_and_what_chance_would_bring() -> None:
    rows = [
        ("p0", "set", "e0", "original", 2, 8, None, "overlap"),
        ("p1", "set", "e0", "flip", 4, 3, None, "overlap"),
        ("p2", "set", "e1", "original", 7, 90, None, "candidate"),
        ("p3", "set", "e2", "original", 0, 0, None, "undecidable"),
    ]
    of_set = {"set": EvalCount(images=10, hashes=30, flat=1, small=10)}
    (line,) = _told(_gathered(rows), of_set, 10**6)
    # Equal hashes of flat images say nothing, on either curve.
    assert [point.images for point in line.curve] == [0, 0, 1, 1, 1, 1, 1, 2, 2]
    within = {point.distance: point for point in line.pdq_curve}
    assert [within[at].images for at in (0, 8, 80, 90)] == [0, 1, 1, 2]
    assert max(within) == 90  # what lies beyond is no row
    # Each image is compared three times with a million others. Seen 258 times within 8 and 90.
    expected = 10 * (1 - (1 - 258 / measured.COMPARISONS) ** 3e6)
    for point in (line.curve[8], within[90]):
        assert point.expected_by_chance == pytest.approx(expected)
        assert not point.at_most
    # Nothing was seen within 31 of PDQ: the bound.
    bound = beta.ppf(0.95, 1, measured.COMPARISONS)
    assert within[31].expected_by_chance == pytest.approx(10 * (1 - (1 - bound) ** 3e6), rel=1e-4)
    assert within[31].at_most
    assert line.curve[7].at_most
    assert (line.is_small, line.undecidable_near, line.candidates) == (True, 1, 1)


def test_where_no_rate_was_measured_none_is_told() -> None:
    of_set = {"set": EvalCount(images=10, hashes=10, flat=0, small=0)}
    (line,) = _told(_gathered([]), of_set, candidate_distance=10)
    assert line.curve[8].expected_by_chance is not None
    assert line.curve[9].expected_by_chance is None
    listed = {"set": EvalCount(images=10, hashes=10, flat=0, small=0, partial=10)}
    (line,) = _told(_gathered([]), listed)
    assert {point.expected_by_chance for point in (*line.curve, *line.pdq_curve)} == {None}


def test_extremes_are_the_same_however_often_they_are_merged() -> None:
    rows = [("set", f"e{n % 7}", n % 5 == 0, (n * 37) % 101 if n % 3 else None) for n in range(300)]
    table = pa.table(list(map(list, zip(*rows, strict=True))), ["source", "eval_id", "sure", "at"])
    found = []
    for spare, at_a_time in ((10**6, 300), (0, 1), (3, 11)):
        images = PerImage({"sure": "max", "at": "min"}, spare=spare)
        for batch in table.to_batches(max_chunksize=at_a_time):
            images.add(pa.Table.from_batches([batch]))
        found.append(sorted(map(str, images.table().to_pylist())))
    assert found[0] == found[1] == found[2]
    nearest = min(at for _, image, _, at in rows if image == "e4" and at is not None)
    assert str({"source": "set", "eval_id": "e4", "sure": True, "at": nearest}) in found[0]


def _many(count: int) -> list[Row]:
    chance = random.Random(3)
    verdicts = ("overlap", "candidate", "candidate", "undecidable")
    return [
        (
            f"p{n:04d}",
            chance.choice(["set", "clean"]),
            f"e{chance.randrange(60)}",
            "original",
            chance.randrange(9),
            chance.randrange(91),
            None,
            chance.choice(verdicts),
        )
        for n in range(count)
    ]


def test_what_is_gathered_depends_on_no_order_and_no_parts() -> None:
    rows = _many(600)
    of_sets = {s.name: EvalCount(images=60, hashes=60, flat=0, small=0) for s in SETS}
    taken = Decisions("", {"set": 40}, {(rows[0][0], rows[0][1], rows[0][2]): False})
    first = _gathered(rows, taken, shown=5, at_a_time=600)
    other = _gathered(random.Random(1).sample(rows, 600), taken, shown=5, at_a_time=7)
    assert _told(first, of_sets) == _told(other, of_sets)
    assert first.digest.hexdigest() == other.digest.hexdigest()
    assert first.sure().equals(other.sure())
    assert first.sample.shown("set", 30) == other.sample.shown("set", 30)
    for name in ("decided", "changed", "found", "overturned", "rows"):
        assert getattr(first, name) == getattr(other, name), name
    # And it is what plain counting finds.
    verdicts = {}
    for pair, source, image, _, _, pdq, _, before in rows:
        verdict = before
        if source == "set" and before != "undecidable":
            verdict = "overlap" if pdq <= 40 else "candidate"
        if (pair, source, image) in taken.pairs:
            verdict = "candidate"
        verdicts.setdefault((source, image), set()).add(verdict)
    for line in _told(other, of_sets):
        own = [told for (source, _), told in verdicts.items() if source == line.evalset]
        sure = [told for told in own if "overlap" in told]
        unsure = [told for told in own if "overlap" not in told]
        near = [told for told in unsure if "candidate" in told]
        assert (line.overlapping, line.candidates) == (len(sure), len(near))
        assert line.undecidable_near == len(unsure) - len(near)


def test_what_is_shown_of_a_set_is_not_drowned_by_one_distance_or_by_flat_images() -> None:
    crowd = [(f"c{n}", "set", f"e{n}", "original", 5, 80, None, "candidate") for n in range(500)]
    flat = [(f"f{n}", "set", f"e{n}", "original", 0, 0, None, "undecidable") for n in range(500)]
    few = [(f"o{n}", "set", f"e{n}", "original", 0, 2, None, "overlap") for n in range(3)]
    gathered = _gathered([*crowd, *flat, *few], shown=6, at_a_time=50)
    shown = [row["verdict"] for row in gathered.sample.shown("set", 6)]
    assert sorted(shown) == ["candidate"] * 2 + ["overlap"] * 2 + ["undecidable"] * 2
    assert gathered.sample.shown("clean", 6) == []


def test_images_of_sets_are_counted_whatever_the_parts_and_known_by_a_digest() -> None:
    def row(number: int, variant: str = "original", **other: Any) -> dict[str, Any]:
        known = {"id": f"e{number}", "source": "set", "variant": variant, "phash": number}
        return {**known, "pdq": bytes([number] * 32), "quality": 90, "side": 200, **other}

    rows = [row(0), row(0, "flip"), row(1, quality=3), row(2, side=32), row(3, pdq=None)]
    table = pa.Table.from_pylist(rows, FINGERPRINTS).select(COLUMNS)

    def told(rows: pa.Table) -> EvalCount:
        return counts(rows.to_batches(max_chunksize=2), ["set"], 50)["set"]

    found = told(table)
    assert (found.images, found.hashes, found.flat, found.small, found.partial) == (4, 5, 1, 1, 1)
    assert told(table.take([4, 2, 0, 1, 3])) == found
    assert told(table.slice(1)).digest != found.digest


def test_the_median_over_sets_leaves_out_sets_without_images() -> None:
    of_sets = {"one": EvalCount(5, 5, 0, 0), "none": EvalCount(0, 0, 0, 0)}
    lines = _told(_gathered([]), of_sets)
    assert over_sets(lines) == {
        "sets": 1,
        "median_overlap": 0.0,
        "mean_overlap": 0.0,
        "without": 1,
    }
    assert over_sets([])["median_overlap"] is None
