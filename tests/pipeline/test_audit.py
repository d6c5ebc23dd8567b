"""pipeline.audit"""

import pyarrow as pa
import pytest
from scipy.stats import beta

from pipeline import decisions
from pipeline.audit import EvalCount, marked, over_sets, summary
from pipeline.intervals import interval
from pipeline.schemas import OVERLAPS
from pipeline.settings import AuditSettings, DedupSettings


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
    overlaps = pa.table(list(map(list, zip(*rows, strict=True))), schema=OVERLAPS)
    none = decisions.Decisions("", {}, {})
    audited = marked(decisions.apply(overlaps, none).rows, {"p0"})
    counts = {
        "set": EvalCount(images=10, hashes=20, flat=1, small=0),
        "clean": EvalCount(images=5, hashes=5, flat=5, small=0),
    }
    clean, line = summary(audited, counts, 100, {"p1", "p9"}, AuditSettings(), DedupSettings())
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
    overlaps = pa.table(list(map(list, zip(*rows, strict=True))), schema=OVERLAPS)
    none = decisions.Decisions("", {}, {})
    audited = marked(decisions.apply(overlaps, none).rows, set())
    counts = {"set": EvalCount(images=10, hashes=30, flat=1, small=10)}
    (line,) = summary(audited, counts, 10**6, set(), AuditSettings(), DedupSettings())
    assert [point.images for point in line.curve] == [1, 1, 2, 2, 2, 2, 2, 3, 3]
    assert {p.distance: p.images for p in line.pdq_curve if p.distance in (0, 8, 80, 96)} == {
        0: 0,  # equal hashes of flat images say nothing
        8: 1,
        80: 1,
        96: 2,
    }
    # Each image is compared three times with a million others.
    expected = 10 * (1 - (1 - 2.7e-8) ** 3e6)
    assert line.curve[3].expected_by_chance == pytest.approx(expected)
    assert line.curve[4].expected_by_chance == pytest.approx(expected)
    assert (line.is_small, line.undecidable_near, line.candidates) == (True, 1, 1)


def test_the_median_over_sets_leaves_out_sets_without_images() -> None:
    rows = pa.table([[] for _ in OVERLAPS], schema=OVERLAPS)
    audited = marked(decisions.apply(rows, decisions.Decisions("", {}, {})).rows, set())
    counts = {"one": EvalCount(5, 5, 0, 0), "none": EvalCount(0, 0, 0, 0)}
    lines = summary(audited, counts, 100, set(), AuditSettings(), DedupSettings())
    assert over_sets(lines) == {
        "sets": 1,
        "median_overlap": 0.0,
        "mean_overlap": 0.0,
        "without": 1,
    }
    assert over_sets([])["median_overlap"] is None
