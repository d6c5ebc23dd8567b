"""The order: every sample once an epoch, well mixed, and the same for whoever asks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pipeline.errors import BadInput
from pipeline.trainer.order import Order, permuted

ALL = 10**9

GOLDEN = [0, 2, 8, 11, 6, 2]
GOLDEN_CROPS = [0.309774, 0.950875, 0.220021]


def begins_of(sizes):
    return np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)


@st.composite
def orders(draw):
    sizes = draw(st.lists(st.integers(0, 40), min_size=1, max_size=12).filter(sum))
    batch_size = draw(st.integers(1, sum(sizes)))
    return Order(begins_of(sizes), batch_size, draw(st.integers(0, 9)), draw(st.integers(1, 15)))


@given(st.integers(1, 3000), st.integers(0, 2**63), st.integers(0, 99))
@hypothesis_settings(deadline=None, max_examples=60)
def test_what_is_permuted_is_a_permutation(count, seed, epoch):
    found = permuted(np.arange(count), count, seed, epoch)
    assert sorted(found.tolist()) == list(range(count))


@given(orders())
@hypothesis_settings(deadline=None, max_examples=150)
def test_every_sample_stands_in_every_epoch_once(order):
    total, size = len(order), order.batch_size
    places = 3 * total
    parts = [order.row(at, min(size, places - at)) for at in range(0, places, size)]
    samples = np.concatenate([part.sample for part in parts])
    for epoch in range(3):
        whole = samples[epoch * total : (epoch + 1) * total]
        assert np.array_equal(np.sort(whole), np.arange(total))


@given(orders())
@hypothesis_settings(deadline=None, max_examples=150)
def test_no_batch_holds_a_sample_twice_where_the_corpus_fills_two(order):
    size = order.batch_size
    for step in range(3 * len(order) // size):
        found = order.row(step * size, size).sample
        if len(order) >= 2 * size:
            assert len(np.unique(found)) == size


@given(orders(), st.data())
@hypothesis_settings(deadline=None, max_examples=100)
def test_a_part_of_a_batch_is_the_same_as_in_the_whole_batch(order, data):
    size = order.batch_size
    step = data.draw(st.integers(0, 3 * len(order) // size))
    first = data.draw(st.integers(0, size - 1))
    count = data.draw(st.integers(1, size - first))
    whole = order.row(step * size, size)
    part = order.row(step * size + first, count)
    for all_of_it, some in zip(whole, part, strict=True):
        assert np.array_equal(all_of_it[first : first + count], some)
    assert np.array_equal(order.crops(whole)[first : first + count], order.crops(part))


@given(orders(), st.integers(0, 200))
@hypothesis_settings(deadline=None, max_examples=100)
def test_a_batch_needs_no_shard_but_those_of_its_window_and_the_next(order, place):
    now, after = order.shards_from(place)
    assert len(now) <= order.window
    assert len(after) <= order.window
    window = order.row(place, 1)
    shard = np.searchsorted(order.begins, window.sample[0], side="right") - 1
    is_moved = place % len(order) < order.batch_size  # a head may borrow from its batch
    assert shard in now or is_moved
    other = order.another(int(window.epoch[0]), int(window.position[0]), 1)
    assert np.searchsorted(order.begins, other, side="right") - 1 in now


def test_windows_of_an_epoch_hold_each_shard_once():
    order = Order(begins_of([5] * 23), 4, seed=1, window=6)
    found, place = [], 0
    while place < len(order):
        now, _ = order.shards_from(place)
        found += now
        place += 5 * len(now)
    assert sorted(found) == list(range(23))
    assert found != sorted(found)


def test_orders_differ_between_epochs_between_seeds_and_between_windows():
    begins = begins_of([10] * 20)
    first = Order(begins, 200, 0, ALL).row(0, 200).sample
    others = [
        Order(begins, 200, 0, ALL).row(200, 200).sample,
        Order(begins, 200, 1, ALL).row(0, 200).sample,
        Order(begins, 200, 0, 5).row(0, 200).sample,
    ]
    for other in others:
        assert np.mean(first == other) < 0.1


def test_a_batch_of_a_whole_window_mixes_its_shards_evenly():
    order = Order(begins_of([100] * 50), 250, seed=3, window=50)
    shards = [order.row(step * 250, 250).sample // 100 for step in range(20)]
    counts = np.array([np.bincount(batch, minlength=50) for batch in shards])
    # As if drawn by hand: 250 * 0.02 * 0.98 * (4750 / 4999), four deviations to each side.
    assert 3.8 < counts.var() < 5.5
    assert counts.max() < 5 + 6 * 2.2


def test_a_narrow_window_takes_a_batch_from_few_shards_and_other_ones_in_each_epoch():
    order = Order(begins_of([100] * 50), 100, seed=3, window=5)
    first = set((order.row(0, 100).sample // 100).tolist())
    later = set((order.row(5000, 100).sample // 100).tolist())
    assert len(first) <= 5
    assert first != later


def test_neighbours_of_a_shard_are_spread_over_the_epoch():
    order = Order(begins_of([1000] * 10), 100, seed=0, window=ALL)
    place = np.empty(10_000, dtype=np.int64)
    place[np.concatenate([order.row(at, 100).sample for at in range(0, 10_000, 100)])] = np.arange(
        10_000
    )
    gaps = np.abs(np.diff(place))
    # Two places drawn at random are a third of the whole apart.
    assert 0.31 < gaps.mean() / 10_000 < 0.36


def test_crops_are_spread_over_zero_to_one_and_differ_between_epochs():
    order = Order(begins_of([2000]), 2000, seed=0, window=1)
    first, second = order.row(0, 2000), order.row(2000, 2000)
    crops = order.crops(first)
    assert 0.0 <= crops.min() < 0.01
    assert 0.99 < crops.max() < 1.0
    assert abs(crops.mean() - 0.5) < 0.02
    again = order.crops(second)[np.argsort(second.sample)]
    assert not np.isclose(crops[np.argsort(first.sample)], again).any()


def test_replacements_differ_between_attempts_and_are_the_same_when_asked_again():
    order = Order(begins_of([100] * 10), 10, seed=0, window=2)
    found = [order.another(0, 5, attempt) for attempt in range(1, 30)]
    assert len(set(found)) > 20
    assert found == [order.another(0, 5, attempt) for attempt in range(1, 30)]


def test_replacements_leave_a_window_of_which_everything_may_be_lost():
    order = Order(begins_of([5, 0, 7, 9]), 10, seed=0, window=1)
    for place in range(21):
        found = [order.another(0, place, attempt) for attempt in range(1, 31)]
        shards = [np.searchsorted(order.begins, number, side="right") - 1 for number in found]
        assert len(set(shards[:10])) == 1
        assert set(shards) == {0, 2, 3}


def test_a_batch_larger_than_the_data_is_refused_with_both_numbers():
    with pytest.raises(BadInput, match=r"24 samples do not fill one batch of 25"):
        Order(begins_of([8, 8, 8]), 25, 0, 1)


def test_the_order_of_an_old_run_never_changes():
    # A change here breaks the resume of every training that is under way.
    order = Order(begins_of([7, 5, 9, 3]), 6, seed=11, window=2)
    assert order.row(22, 6).sample.tolist() == GOLDEN
    assert [round(float(crop), 6) for crop in order.crops(order.row(0, 3))] == GOLDEN_CROPS
