"""benchmarks.population: sampled pairs, cut as a run cuts them, beside the plan's arithmetic."""

import numpy as np
import pytest

from benchmarks import population
from jobs import plan_pool, plan_rates
from pipeline.balance.order import Claims, priority

_SCALE = 4000
_CAP = 20_000 // _SCALE
_SPREAD = plan_rates.reference().share("queries_together")


@pytest.fixture(scope="module")
def pool() -> Claims:
    return population.sampled(round(plan_pool.PAIRS / _SCALE), _SCALE, _SPREAD, 0)


def test_a_query_keeps_the_first_pairs_of_its_order() -> None:
    names = np.arange(1, 7, dtype=np.uint64)
    # Query 0 is of all six pairs, query 1 of the last alone.
    begins = np.array([0, 1, 2, 3, 4, 5, 7])
    few = Claims(names, names, begins, np.array([0, 0, 0, 0, 0, 0, 1], np.int32))
    has, per_query = population.taken(few, population.cut(few, np.array([2, 5])))
    order = np.argsort([int(np.uint64(priority(name, 0, 0))) for name in names])
    first = {*order[:2].tolist(), 5}
    assert set(np.flatnonzero(has).tolist()) == first
    assert per_query.tolist() == [2, 1]


def test_a_sampled_pool_has_the_published_totals(pool: Claims) -> None:
    # What would fall twice on one pair is one match; in rich captions that is more than chance.
    assert len(pool.values) * _SCALE == pytest.approx(plan_pool.MATCHES, rel=0.15)
    sizes = population.sizes_of(pool, plan_pool.WITH_PAIRS)
    head = sizes[: plan_pool.HEAD_QUERIES].sum()
    assert head / sizes.sum() == pytest.approx(5.35 / 5.67, abs=0.01)


def test_the_cap_leaves_what_was_published_and_what_is_planned(pool: Claims) -> None:
    kept = population.kept(pool, plan_pool.WITH_PAIRS, _CAP) * _SCALE
    assert kept == pytest.approx(400e6, rel=0.15)
    claims = float(plan_pool.counts(plan_pool.PAIRS).clip(max=20_000).sum())
    assert kept == pytest.approx(plan_pool.union(plan_pool.PAIRS, claims, _SPREAD), rel=0.15)


@pytest.mark.parametrize("alive", [0.5, 0.62, 0.8])
def test_a_download_with_dead_links_comes_out_as_planned(pool: Claims, alive: float) -> None:
    came = population.downloaded(
        pool, plan_pool.WITH_PAIRS, _CAP, 1.6, 3, alive=alive, kept_by_dedup=0.9, seed=1
    )
    planned = plan_pool.drawn(
        plan_pool.PAIRS, 20_000, 1.6, 3, alive=alive, kept_by_dedup=0.9, spread=_SPREAD
    )
    for ours, theirs in (
        (came.first, planned.first),
        (came.drawn, planned.drawn),
        (came.arrived, planned.alive),
        (came.stayed, planned.kept_by_dedup),
        (came.balanced, planned.balanced),
    ):
        assert ours * _SCALE == pytest.approx(theirs, rel=0.15)
    # Three rounds fill nearly every cap that one round with too little headroom leaves open.
    assert came.filled > came.first_filled
    assert came.filled > 0.95
