"""pipeline.references"""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import hamming, references
from pipeline.cascade import VERDICTS
from pipeline.references import References, Searcher
from pipeline.schemas import FINGERPRINTS
from pipeline.settings import DedupSettings

_COLUMNS = ("id", "source", "variant", "phash", "pdq", "quality", "sha256", "pixels_sha256")
_SCHEMA = pa.schema([FINGERPRINTS.field(name) for name in _COLUMNS])
_MANY = DedupSettings(references_per_image=1000)


def _table(rows: list[tuple[Any, ...]]) -> pa.Table:
    columns = [[row[i] for row in rows] for i in range(len(_COLUMNS))]
    return pa.table(
        [pa.array(c, f.type) for c, f in zip(columns, _SCHEMA, strict=True)], schema=_SCHEMA
    )


def _search(
    known: list[tuple[Any, ...]], corpus: list[tuple[Any, ...]], dedup: DedupSettings = _MANY
) -> list[dict[str, Any]]:
    batch = _table(corpus).to_batches() or [pa.RecordBatch.from_pylist([], _SCHEMA)]
    rows = Searcher(References.of(_table(known)), dedup).overlaps(batch[0]).to_pylist()
    return [dict(row) for row in rows]


def _pdq(bits: int) -> bytes:
    return int.to_bytes((1 << bits) - 1, 32, "big")


_PHASHES = st.sampled_from([None, 0, 1, 0b111, 0xFFF, -1, -2])
_PDQS = st.sampled_from([None, _pdq(0), _pdq(20), _pdq(40), _pdq(100), _pdq(256)])
_ROWS = st.tuples(
    st.sampled_from("abc"),
    st.sampled_from(["one", "two"]),
    st.sampled_from(["flip", "original", "pad"]),
    _PHASHES,
    _PDQS,
    st.sampled_from([0, 60, 100]),
    st.sampled_from([None, "s", "t"]),
    st.sampled_from([None, "p", "q", "s"]),
)


def _by_hand(known: Any, corpus: Any) -> dict[tuple[str, str, str], tuple[int, Any, Any]]:
    """The verdict and distances of each pair of images that meet."""
    best: dict[tuple[str, str, str], tuple[Any, ...]] = {}
    for c in corpus:
        for k in known:
            phash = pdq = None
            if c[3] is not None and k[3] is not None:
                phash = ((c[3] ^ k[3]) & (1 << 64) - 1).bit_count()
            if c[4] is not None and k[4] is not None:
                pdq = (int.from_bytes(c[4]) ^ int.from_bytes(k[4])).bit_count()
            digests = {c[6], c[7]} & {k[6], k[7]} - {None}
            is_alone = k[4] is not None and k[3] is None and c[3] is not None and pdq is not None
            met = phash is not None and phash <= 8 and _has_pdq(c)
            met |= is_alone and pdq <= 31 and c[5] >= 50
            if not met and not digests:
                continue
            quality = min(c[5], k[5])
            if digests or (phash == 0 and k[4] is None and quality >= 50):
                verdict = 0
            elif quality < 50:
                verdict = 2
            else:
                far = 256 if pdq is None else pdq
                near = far <= 31
                verdict = 0 if near else 1
                if not near and pdq is not None and pdq > 90:
                    continue
            key = (c[0], k[1], k[0])
            told = (not digests, verdict, 256 if pdq is None else pdq)
            if key not in best or told < best[key][0]:
                best[key] = (told, verdict)
    return {key: verdict for key, (_, verdict) in best.items()}


def _has_pdq(row: Any) -> bool:
    return row[4] is not None


@given(
    st.lists(_ROWS, max_size=12),
    st.lists(_ROWS, max_size=4, unique_by=lambda row: row[0]),
    st.sampled_from([1, 3, 1 << 20]),
)
@settings(deadline=None)
def test_each_image_has_the_verdict_of_the_cascade_on_its_nearest_variant(
    known: Any, corpus: Any, found_at_once: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(references, "_EXPANDED", found_at_once)
        patch.setattr(hamming, "_FOUND", found_at_once)
        found = _search(known, corpus)
    keys = [(row["pair_id"], row["source"], row["eval_id"]) for row in found]
    assert len(set(keys)) == len(keys)
    verdicts = [VERDICTS.index(row["verdict"]) for row in found]
    assert dict(zip(keys, verdicts, strict=True)) == _by_hand(known, corpus)


def test_a_crowd_of_blank_images_names_some_references_each_and_all_together() -> None:
    blank = (0, _pdq(0), 0)
    known = [(f"e{i:03d}", "set", v, *blank, None, "w") for i in range(40) for v in ("a", "b")]
    corpus = [(f"pair {i}", "corpus", "original", *blank, None, "w") for i in range(300)]
    dedup = DedupSettings(references_per_image=5)
    found = _search(known, corpus, dedup)
    assert len(found) == 5 * 300
    assert len({(row["pair_id"], row["eval_id"]) for row in found}) == len(found)
    assert {row["eval_id"] for row in found} == {row[0] for row in known}
    assert found == _search(known[::-1], corpus, dedup)


def test_the_nearest_are_told_where_there_are_too_many() -> None:
    known = [(f"e{i}", "set", "original", i, _pdq(i), 100, None, None) for i in range(8)]
    far = ("far", "set", "original", -1, _pdq(200), 100, "same file", None)
    corpus = [("pair", "corpus", "original", 0, _pdq(0), 100, "same file", None)]
    found = _search([*known, far], corpus, DedupSettings(references_per_image=3))
    assert [row["eval_id"] for row in found] == ["far", "e0", "e1"]
    assert [row["similarity"] for row in found] == [1.0, None, None]


def test_a_reference_may_be_one_hash_alone() -> None:
    known = [
        ("pdq", "list", "original", None, _pdq(31), None, None, None),
        ("far pdq", "list", "original", None, _pdq(32), None, None, None),
        ("phash", "list", "original", 7, None, None, None, None),
        ("far phash", "list", "original", 6, None, None, None, None),
        ("bytes", "list", "original", None, None, None, "s", None),
    ]
    corpus = [("pair", "corpus", "original", 7, _pdq(0), 100, "s", "p")]
    told = {
        r["eval_id"]: (r["verdict"], r["phash_distance"], r["pdq_distance"])
        for r in _search(known, corpus)
    }
    assert told == {
        "bytes": ("overlap", None, None),
        "pdq": ("overlap", None, 31),
        "phash": ("overlap", 0, None),
        "far phash": ("candidate", 1, None),
    }  # fmt: skip


def test_no_threshold_is_so_wide_that_it_confirms_by_a_hash_that_is_not_there() -> None:
    known = [
        ("phash", "list", "original", 6, None, None, None, None),
        ("pdq", "list", "original", None, _pdq(256), None, None, None),
        ("both", "list", "original", 0xFFFF << 8, _pdq(256), 100, None, None),
    ]
    corpus = [("pair", "corpus", "original", 0, _pdq(0), 100, "s", "p")]
    widest = DedupSettings(candidate_distance=16, pdq_distance=256, candidate_pdq_distance=256)
    told = {row["eval_id"]: row["verdict"] for row in _search(known, corpus, widest)}
    assert told == {"phash": "candidate", "pdq": "overlap", "both": "overlap"}


def test_hashes_of_the_wrong_length_are_none() -> None:
    known = [("e", "set", "original", 0, b"short", 100, None, None)]
    corpus = [("pair", "corpus", "original", 1, b"x" * 40, 100, None, None)]
    assert _search(known, corpus) == []
