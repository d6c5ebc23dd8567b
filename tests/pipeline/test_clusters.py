"""pipeline.clusters"""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import clusters
from pipeline.clusters import components, links, near_pairs

_SEEDS = st.integers(0, 2**32)


def _crowded(seed: int, count: int, bits: int = 64) -> Any:
    """Hashes around few centres, each with some bits turned over."""
    random = np.random.default_rng(seed)
    centres = random.integers(0, 2**63, (2, bits // 64), dtype=np.uint64)
    hashes = centres[random.integers(0, 2, count)]
    for _ in range(4):
        flips = np.uint64(1) << random.integers(0, 64, (count, bits // 64), dtype=np.uint64)
        hashes ^= np.where(random.random((count, 1)) < 0.6, flips, np.uint64(0))
    return hashes.reshape(-1) if bits == 64 else hashes


def _pairs_by_hand(hashes: list[int], radius: int) -> list[tuple[int, int, int]]:
    firsts: dict[int, int] = {}
    copies = [(firsts[h], i, 0) for i, h in enumerate(hashes) if firsts.setdefault(h, i) != i]
    places = sorted(firsts.values())
    near = [
        (a, b, (hashes[a] ^ hashes[b]).bit_count())
        for a in places
        for b in places
        if a < b and (hashes[a] ^ hashes[b]).bit_count() <= radius
    ]
    return sorted(copies + near)


@given(_SEEDS, st.integers(0, 120), st.integers(0, 64), st.sampled_from([2, 10, 512]))
@settings(deadline=None)
def test_near_pairs_are_those_that_counting_bits_finds(
    seed: int, count: int, radius: int, crowd: int
) -> None:
    radius = radius // 10 if seed % 2 else radius
    hashes = _crowded(seed, count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clusters, "_CROWD", crowd)
        found = near_pairs(hashes, radius)
    assert list(zip(*(c.tolist() for c in found), strict=True)) == _pairs_by_hand(
        hashes.tolist(), radius
    )


@pytest.mark.parametrize("radius", [1, 2, 3])
def test_a_crowd_of_near_hashes_is_split_until_it_is_none(radius: int) -> None:
    random = np.random.default_rng(3)
    low = random.permutation(1 << 13).astype(np.uint64)[:3000]
    spread = (low & np.uint64(0x3F)) | (low >> np.uint64(6)) << np.uint64(50)
    found = near_pairs(spread, radius)
    apart = np.bitwise_count(spread[:, None] ^ spread[None, :])
    first, second = np.nonzero(np.triu(apart <= radius, 1))
    assert np.array_equal(found[0], first)
    assert np.array_equal(found[1], second)


@given(_SEEDS, st.integers(0, 100), st.integers(0, 3), st.integers(0, 8))
@settings(deadline=None)
def test_links_connect_what_both_hashes_connect(
    seed: int, count: int, radius: int, pdq_distance: int
) -> None:
    phash, pdq = _crowded(seed, count), _crowded(seed + 1, count, 256)
    first, second = links(phash, pdq, radius, pdq_distance)
    assert len(first) < max(count, 1)
    near = np.bitwise_count(phash[:, None] ^ phash[None]) <= radius
    near &= np.bitwise_count(pdq[:, None] ^ pdq[None]).sum(axis=2) <= pdq_distance
    by_hand = components(*np.nonzero(near), count)
    assert near[first, second].all()
    assert np.array_equal(components(first, second, count), by_hand)


def test_a_crowd_of_one_phash_is_compared_with_its_leaders_alone() -> None:
    count, random = 6000, np.random.default_rng(5)
    centres = random.integers(0, 2**63, (3, 4), dtype=np.uint64)
    kinds = random.integers(0, 3, count)
    pdq = centres[kinds] ^ (np.uint64(1) << random.integers(0, 60, (count, 4), dtype=np.uint64))
    phash = np.zeros(count, np.uint64)
    phash[:10] = 3
    first, second = links(phash, pdq, 2, 31)
    found = components(first, second, count)
    assert len(np.unique(found)) == 3
    for kind in range(3):
        assert len(np.unique(found[kinds == kind])) == 1
    turned = random.permutation(count)
    again = links(phash[turned], pdq[turned], 2, 31)
    assert np.array_equal(components(turned[again[0]], turned[again[1]], count), found)


@pytest.mark.parametrize(("beside", "is_found"), [(1000, True), (2000, False)])
def test_what_lies_beside_a_crowd_is_compared_with_all_of_it_where_that_is_no_square(
    beside: int, is_found: bool
) -> None:
    random = np.random.default_rng(7)
    crowd = random.integers(0, 2**63, (3000, 4), dtype=np.uint64)
    others = random.integers(0, 2**63, (beside, 4), dtype=np.uint64)
    # One like the last of the crowd by PDQ, which is none of the leaders.
    last = np.lexsort(crowd.T[::-1])[-1]
    others[0] = crowd[last]
    phash = np.repeat(np.array([0, 1], np.uint64), [3000, beside])
    first, second = links(phash, np.concatenate([crowd, others]), 2, 31)
    found = {*first.tolist(), *second.tolist()}
    assert found == ({int(last), 3000} if is_found else set())
