"""pipeline.digests"""

import random
from hashlib import sha256

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.digests import Digest

_ROW = st.tuples(st.text(max_size=3), st.binary(max_size=3), st.none() | st.integers(0, 9))


def _columns(rows: list[tuple[str, bytes, int | None]]) -> list[pa.Array]:
    kinds = (pa.string(), pa.binary(), pa.int32())
    return [pa.array([row[n] for row in rows], kind) for n, kind in enumerate(kinds)]


@settings(deadline=None)  # the first call loads pyarrow's functions
@given(st.lists(_ROW), st.randoms(use_true_random=False), st.integers(0, 5))
def test_rows_may_come_in_any_order_and_parts(
    rows: list[tuple[str, bytes, int | None]], chance: random.Random, cut: int
) -> None:
    whole, parts = Digest(), Digest()
    ranks = whole.add(_columns(rows))
    assert len(ranks) == len(rows)
    mixed = chance.sample(rows, len(rows))
    parts.add(_columns(mixed[:cut]))
    parts.add(_columns(mixed[cut:]))
    assert parts.hexdigest() == whole.hexdigest()


def test_a_null_is_no_empty_text_and_columns_do_not_run_together() -> None:
    told = set()
    for rows in ([("a", b"b", 1)], [("ab", b"", 1)], [("a", b"b", None)], [("a", b"b1", None)]):
        found = Digest()
        found.add(_columns(rows))
        told.add(found.hexdigest())
    assert len(told) == 4


@settings(deadline=None)
@given(st.lists(st.binary(max_size=4)))
def test_hashes_are_summed_as_they_are(bodies: list[bytes]) -> None:
    hashes = [sha256(body).hexdigest() for body in bodies]
    found = Digest()
    found.add_hashes(pa.array([*hashes, None, "no hash"], pa.string()))
    expected = sum(int(one, 16) for one in hashes) % 2**256
    assert found.hexdigest() == f"{expected:064x}"
