"""Fingerprints as a corpus of the web has them, as many as wanted, and those of evaluation images.

Three rows in ten have a like. The sizes of clusters of near-duplicates have a heavy tail; the few
error images, flat pictures and templates hold a fixed share of all rows: their crowds grow with the
corpus. There are no pictures: what takes a second look finds no tar, and the hashes decide.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.scale_names import Words, hexed, mixed, uniform
from benchmarks.scale_run import begun
from jobs.ledger import Ledger
from pipeline.schemas import FINGERPRINTS, IMAGES

_KNOWN = 100_000
"""Hashes of evaluation images."""
_ROWS_OF_FILE = 250_000
_ERROR, _FLAT, _TEMPLATE, _CLUSTERED, _COPY, _ALONE = range(6)
_SHARES = [0.015, 0.010, 0.010, 0.265, 0.002]
"""Of all rows: error images; flat ones, of which PDQ says nothing; templates, whose pHashes are
near and whose PDQs are not; members of clusters; copies of evaluation images. The rest are alone.
"""
_CROWDS = {_ERROR: 40, _FLAT: 20, _TEMPLATE: 5}
"""How many error images, flat pictures and templates there are."""
_OF_CLUSTER = 4
"""Members of a cluster on average. The largest has some 2,000 of 1.3 million."""
_EQUAL = 1 / 3
"""Of the members of clusters: as many have the very pixels of the cluster's own picture."""
_PHASH_FLIPS, _PDQ_FLIPS = 2, 14
"""Bits that differ at most from the cluster's own hashes: PDQ then confirms any two members."""


class Hashes(NamedTuple):
    """What is known of the rows of a corpus."""

    phash: Words
    pdq: Words
    """Four words a row."""
    quality: npt.NDArray[np.int32]
    pixels: Words
    """A number for each picture: rows of the same pixels have the same."""


def corpus(first: int, rows: int, of: int) -> Hashes:
    """Rows of a corpus of `of`, from row `first` on."""
    places = np.arange(first, first + rows, dtype=np.uint64)
    kind = np.searchsorted(np.cumsum(_SHARES), uniform(places, 10), side="right")
    crowds = _CROWDS | {_CLUSTERED: max(1, int(of * _SHARES[_CLUSTERED] / _OF_CLUSTER))}
    group = np.where(kind == _COPY, mixed(places, 12) % np.uint64(_KNOWN), places)
    for crowd, count in crowds.items():
        of_crowd = (uniform(places, 11) ** 2 * count).astype(np.uint64)
        group = np.where(kind == crowd, of_crowd, group)
    phash, pdq = _own(group, kind)

    is_equal = kind == _ERROR
    is_equal |= (kind == _CLUSTERED) & (uniform(places, 13) < _EQUAL)
    is_bent = ~is_equal & (kind != _ALONE)
    _flip(phash, is_bent, places, 100, _PHASH_FLIPS)
    _flip(pdq, is_bent, places, 200, _PDQ_FLIPS)
    is_other = (kind == _FLAT) | (kind == _TEMPLATE)
    pdq = np.where(is_other[:, None], _own(places, kind)[1], pdq)
    quality = np.where(kind == _FLAT, 20, 100).astype(np.int32)
    pixels = np.where(is_equal, _number(group, kind), _number(places, np.full(rows, _ALONE)))
    return Hashes(phash[:, 0], pdq, quality, pixels)


def known() -> Hashes:
    """Those of the evaluation images."""
    places = np.arange(_KNOWN, dtype=np.uint64)
    kind = np.full(_KNOWN, _COPY)
    phash, pdq = _own(places, kind)
    return Hashes(phash[:, 0], pdq, np.full(_KNOWN, 100, np.int32), _number(places, kind))


def _number(group: Words, kind: npt.NDArray[np.int64]) -> Words:
    """A number for each picture of each kind."""
    return group * np.uint64(8) + kind.astype(np.uint64)


def _own(group: Words, kind: npt.NDArray[np.int64]) -> tuple[Words, Words]:
    """The hashes of a picture: rows of one word, and of four."""
    words = np.stack([mixed(_number(group, kind), 20 + word) for word in range(5)], axis=1)
    return words[:, :1].copy(), words[:, 1:].copy()


def _flip(words: Words, where: npt.NDArray[np.bool_], places: Words, seed: int, most: int) -> None:
    """Flip up to so many bits of some rows."""
    rows = np.flatnonzero(where)
    of_row = places[rows]
    for turn in range(most):
        chance = mixed(of_row, seed + turn)
        bit = chance % np.uint64(64 * words.shape[1])
        mask = np.where(chance >> np.uint64(63), np.uint64(1) << bit % np.uint64(64), np.uint64(0))
        words[rows, (bit // np.uint64(64)).astype(np.int64)] ^= mask


def make(folder: Path, rows: int) -> None:
    """A run that may begin with dedup: so many images that arrived, and all fingerprints."""
    run = begun(folder)
    with run.stage("download", {}, {}):
        images = run.begin("images")
    with run.stage("fingerprint", {}, {}):
        fingerprints = run.begin("fingerprints")
        _write(
            _fingerprints(known(), hexed(np.arange(_KNOWN), 90, 2), "evals"), fingerprints, "known"
        )
        for number, first in enumerate(range(0, rows, _ROWS_OF_FILE)):
            count = min(_ROWS_OF_FILE, rows - first)
            names = hexed(np.arange(first, first + count), 80, 2)
            hashes = corpus(first, count, rows)
            _write(_fingerprints(hashes, names, "corpus"), fingerprints, f"{number:05d}")
            _write(_images(first, names), images, f"{number:05d}")
        run.finish("fingerprints", Ledger(rows + _KNOWN, rows + _KNOWN))
    with run.stage("download", {}, {}):
        run.finish("images", Ledger(rows, rows))


def _write(table: pa.Table, folder: Path, name: str) -> None:
    pq.write_table(table, folder / f"{name}.parquet", compression="zstd", row_group_size=1 << 17)


def _fingerprints(hashes: Hashes, names: pa.StringArray, source: str) -> pa.Table:
    rows = len(names)
    columns = {
        "id": names,
        "source": _repeated(source, rows),
        "variant": _repeated("original", rows),
        "phash": pa.array(hashes.phash.view(np.int64)),
        "pdq": pa.array([row.tobytes() for row in hashes.pdq], pa.binary()),
        "quality": pa.array(hashes.quality),
        "sha256": hexed(hashes.pixels, 60, 4),
        "pixels_sha256": hexed(hashes.pixels, 70, 4),
        "side": pa.array(np.full(rows, 256, np.int32)),
        "look": pa.nulls(rows, pa.binary()),
    }
    return pa.table(columns, schema=FINGERPRINTS)


def _images(first: int, names: pa.StringArray) -> pa.Table:
    """What dedup asks of images that arrived; of the rest there is nothing."""
    rows = len(names)
    places = np.arange(first, first + rows)
    numbers = pa.array(places).cast(pa.string())
    sides = (256 + mixed(places, 40) % np.uint64(128)).astype(np.int32)
    known = {
        "pair_id": names,
        "url": pc.binary_join_element_wise("https://site.example/", numbers, ".jpg", ""),
        "caption": pc.binary_join_element_wise("the picture of page", numbers, " "),
        "status": _repeated("success", rows),
        "raw_shard": pa.array((places // 10_000).astype(np.int32)),
        "width": pa.array(sides),
        "height": pa.array(np.full(rows, 256, np.int32)),
        "offset": pa.array(places % 10_000 * 20_480 + 512),
        "bytes": pa.array(np.full(rows, 20_000)),
    }
    empty = pa.array([[]], pa.list_(pa.int32())).take(pa.array(np.zeros(rows, np.int32)))
    columns = []
    for field in IMAGES:
        if field.name in known:
            columns.append(known[field.name].cast(field.type))
        elif field.nullable:
            columns.append(pa.nulls(rows, field.type))
        else:
            columns.append(empty if pa.types.is_list(field.type) else pa.array(places, field.type))
    return pa.table(columns, schema=IMAGES)


def _repeated(text: str, rows: int) -> pa.StringArray:
    return pa.array([text]).take(pa.array(np.zeros(rows, np.int32)))
