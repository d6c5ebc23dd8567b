"""pipeline.hamming"""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import hamming
from pipeline.hamming import HammingIndex, bands

_SEEDS = st.integers(0, 2**32)


def _by_hand(hashes: Any, queries: Any, radius: int) -> list[tuple[int, int, int]]:
    rows = [
        np.ascontiguousarray(a).view(np.uint8).reshape(len(a), 8 if a.ndim == 1 else 32)
        for a in (queries, hashes)
    ]
    apart = np.bitwise_count(rows[0][:, None] ^ rows[1][None]).sum(axis=2, dtype=np.int64)
    query, hashed = np.nonzero(apart <= radius)
    return list(zip(query.tolist(), hashed.tolist(), apart[query, hashed].tolist(), strict=True))


def _found(index: HammingIndex, queries: Any) -> list[tuple[int, ...]]:
    return list(zip(*(column.tolist() for column in index.search(queries)), strict=True))


def _near_one_another(seed: int, bits: int, count: int) -> Any:
    """Hashes of which many are equal, and many more nearly so."""
    random = np.random.default_rng(seed)
    centres = random.integers(0, 2, (1 + count // 8, bits), dtype=np.uint8)
    hashes = centres[random.integers(0, len(centres), count)]
    flipped = random.random((count, bits)) < random.choice([0.0, 0.02, 0.1, 0.3], (count, 1))
    packed = np.packbits(hashes ^ flipped, axis=1)
    return packed.view(np.uint64).reshape(-1) if bits == 64 else packed


@pytest.mark.parametrize(("bits", "most"), [(64, 64), (256, 256)])
@given(st.data())
@settings(deadline=None)
def test_the_index_finds_what_counting_bits_finds(bits: int, most: int, data: Any) -> None:
    radius = data.draw(st.integers(0, most))
    hashes = _near_one_another(data.draw(_SEEDS), bits, data.draw(st.integers(0, 300)))
    queries = _near_one_another(data.draw(_SEEDS), bits, data.draw(st.integers(0, 20)))
    queries = np.concatenate([queries, hashes[:10], hashes[:10] ^ hashes.dtype.type(5)])
    assert _found(HammingIndex(hashes, radius), queries) == _by_hand(hashes, queries, radius)


@pytest.mark.parametrize("bits", [64, 256])
@given(st.data())
@settings(deadline=None, max_examples=60)
def test_any_bands_that_the_rule_could_choose_find_the_same(bits: int, data: Any) -> None:
    radius = data.draw(st.integers(0, 40))
    number = data.draw(st.integers(max(1, radius // 3), radius + 1))
    chosen = hamming._even(bits, radius, number, data.draw(st.integers(0, 300)))
    hashes = _near_one_another(data.draw(_SEEDS), bits, 100)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hamming, "bands", lambda *_: chosen)
        index = HammingIndex(hashes, radius)
    assert index.bands == chosen
    queries = np.concatenate([hashes[:20], ~hashes[:5]])
    assert _found(index, queries) == _by_hand(hashes, queries, radius)


@pytest.mark.parametrize(("bits", "radius"), [(64, 8), (256, 31)])
def test_tables_find_what_comparing_with_all_finds_among_many(bits: int, radius: int) -> None:
    hashes = _near_one_another(1, bits, 20_000)
    index = HammingIndex(hashes, radius)
    assert index.bands
    assert _found(index, hashes[::400]) == _by_hand(hashes, hashes[::400], radius)


def test_a_million_hashes_are_cut_into_three_bands() -> None:
    assert [tuple(band) for band in bands(64, 8, 10**6)] == [(0, 22, 2), (22, 21, 2), (43, 21, 2)]
    assert bands(64, 8, 100) == []
    assert bands(64, 40, 10**6) == []


def test_a_crowd_is_told_in_parts_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hamming, "_FOUND", 1000)
    crowd = np.arange(600, dtype=np.uint64)
    hashes = np.concatenate([crowd, crowd[:300], np.array([2**63], np.uint64)])
    queries = crowd[:50]
    for radius in (2, 10):
        index = HammingIndex(hashes, radius)
        parts = [part[0] for part in index.parts(queries)]
        assert max(len(part) for part in parts) <= 1000
        assert len(parts) > 1
        assert _found(index, queries) == _by_hand(hashes, queries, radius)


@pytest.mark.parametrize(
    "wrong", [np.zeros((3, 31), np.uint8), np.zeros(3, np.int64), np.zeros((2, 2), np.uint64)]
)
def test_hashes_of_another_shape_are_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="uint64"):
        HammingIndex(wrong, 3)
