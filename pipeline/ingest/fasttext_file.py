"""fasttext's files: a supervised model, .bin or .ftz, read as arrays.

reads   a model of format 12, the one that fasttext writes since 2017

The file may be anybody's: every number is checked before it is believed, and nothing of it is run.
"""

import mmap
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.errors import BadInput

_MAGIC, _FORMAT = 793712314, 12
_SUPERVISED = 3
LOSSES = {1: "hs", 2: "ns", 3: "softmax", 4: "ova"}
_WORD, _LABEL = 0, 1
_CENTROIDS = 256
_MAX_DIM = 1 << 12
_MAX_NGRAM = 64
_MAX_COUNTS = 10**14
_MAX_CODED_BYTES = 1 << 30
"""Of a matrix when its codes are opened."""

Floats = npt.NDArray[np.float32]


class File(NamedTuple):
    """What a model is made of."""

    words: list[bytes]
    labels: list[str]
    label_counts: list[int]
    buckets: int
    min_chars: int
    max_chars: int
    """Of the character n-grams; 0 where there are none."""
    word_ngrams: int
    loss: str
    kept_buckets: npt.NDArray[np.int32] | None
    """Pairs of a bucket and its row behind the words' rows; None where every bucket has its own."""
    rows: Floats
    outputs: Floats


class _Broken(Exception):
    pass


def read(path: str) -> File:
    """The model at `path`; large matrices stay in the file and are shared by all processes.

    Raises BadInput for a file that is missing, or is no such model.
    """
    try:
        with Path(path).open("rb") as stream:
            held = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        return _read(_Cursor(held))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read ({error}): correct the path") from None
    except _Broken as error:
        raise BadInput(
            f"{path} is not a whole fasttext model ({error}): train or fetch it again"
        ) from None


class _Cursor:
    """A place in the file, which nothing is read beyond."""

    def __init__(self, held: mmap.mmap) -> None:
        self._held = held
        self._at = 0

    def _skip(self, size: int) -> int:
        begin = self._at
        if size < 0 or begin + size > len(self._held):
            raise _Broken("it ends early")
        self._at += size
        return begin

    def numbers(self, layout: str) -> tuple[Any, ...]:
        layout = "<" + layout
        return struct.unpack_from(layout, self._held, self._skip(struct.calcsize(layout)))

    def text(self) -> bytes:
        end = self._held.find(b"\0", self._at)
        begin = self._skip(end + 1 - self._at) if end >= 0 else self._skip(-1)
        return self._held[begin:end]

    def array(self, kind: Any, count: int) -> npt.NDArray[Any]:
        size = count * np.dtype(kind).itemsize
        begin = self._skip(size)
        return np.frombuffer(self._held, kind, count, begin)


def _read(cursor: _Cursor) -> File:
    if cursor.numbers("ii") != (_MAGIC, _FORMAT):
        raise _Broken("it begins otherwise")
    told = cursor.numbers("12id")
    dim, _, _, _, _, word_ngrams, loss, model, buckets, min_chars, max_chars, _, _ = told
    if model != _SUPERVISED or loss not in LOSSES:
        raise _Broken("it was not trained on labels")
    is_sane = 0 < dim <= _MAX_DIM and buckets >= 0 and min_chars >= 0 and word_ngrams > 0
    if not is_sane or max(min_chars, max_chars, word_ngrams) > _MAX_NGRAM:
        raise _Broken("its settings make no sense")

    size, n_words, n_labels = cursor.numbers("3i")
    _, n_kept = cursor.numbers("qq")
    if min(n_words, n_labels - 1) < 0 or size != n_words + n_labels or n_kept < -1:
        raise _Broken("its dictionary makes no sense")
    names, counts = [], []
    for number in range(size):
        names.append(cursor.text())
        count, kind = cursor.numbers("qb")
        counts.append(count)
        if kind != (_WORD if number < n_words else _LABEL):
            raise _Broken("its dictionary is in disorder")
    label_counts = counts[n_words:]
    if min(label_counts) < 0 or sum(label_counts) > _MAX_COUNTS:
        raise _Broken("its labels are miscounted")
    kept = None if n_kept < 0 else cursor.array(np.int32, 2 * n_kept).reshape(-1, 2)
    has_ngrams = max_chars > 0 or word_ngrams > 1
    if kept is not None and n_kept and not (kept.min() >= 0 and kept[:, 1].max() < n_kept):
        raise _Broken("its buckets make no sense")
    if has_ngrams and not buckets and n_kept != 0:
        raise _Broken("it has no buckets")

    rows = _matrix(cursor, dim, is_coded=cursor.numbers("?")[0])
    if len(rows) != n_words + (buckets if kept is None else n_kept):
        raise _Broken("its rows are not as many as its words and buckets")
    outputs = _matrix(cursor, dim, is_coded=cursor.numbers("?")[0])
    if len(outputs) != n_labels:
        raise _Broken("its outputs are not as many as its labels")
    return File(
        names[:n_words],
        [name.decode(errors="replace").removeprefix("__label__") for name in names[n_words:]],
        label_counts,
        buckets,
        min_chars,
        max_chars,
        word_ngrams,
        LOSSES[loss],
        kept,
        rows,
        outputs,
    )


def _matrix(cursor: _Cursor, dim: int, *, is_coded: bool) -> Floats:
    if is_coded:
        return _coded_matrix(cursor, dim)
    rows, columns = cursor.numbers("qq")
    if columns != dim or rows < 0:
        raise _Broken("a matrix has another width")
    return cursor.array(np.float32, rows * columns).reshape(rows, columns)


def _coded_matrix(cursor: _Cursor, dim: int) -> Floats:
    """A matrix of product-quantised rows, opened: a row's parts are centroids, times its norm."""
    has_norms, rows, columns, size = cursor.numbers("?qqi")
    if columns != dim or rows < 0 or rows * columns * 4 > _MAX_CODED_BYTES:
        raise _Broken("a matrix has another width")
    codes = cursor.array(np.uint8, size)
    centroids, parts, width = _centroids(cursor, dim)
    if size != rows * parts:
        raise _Broken("a matrix has too few codes")
    norms: Floats = np.ones(rows, np.float32)
    if has_norms:
        norm_codes = cursor.array(np.uint8, rows)
        norm_centroids, _, _ = _centroids(cursor, 1)
        norms = norm_centroids[norm_codes]
    codes = codes.reshape(rows, parts)
    opened = np.empty((rows, dim), np.float32)
    for part in range(parts):
        begin, end = part * width, min((part + 1) * width, dim)
        wide = end - begin  # the last part may be narrower, and its centroids stand closer
        own = centroids[part * _CENTROIDS * width :][: _CENTROIDS * wide].reshape(-1, wide)
        with np.errstate(all="ignore"):  # the numbers need not be finite
            opened[:, begin:end] = norms[:, None] * own[codes[:, part]]
    return opened


def _centroids(cursor: _Cursor, dim: int) -> tuple[Floats, int, int]:
    """The centroids of all parts, how many parts there are, and their width."""
    told, parts, width, last = cursor.numbers("4i")
    if told != dim or width <= 0 or parts != -(-dim // width) or last != dim - (parts - 1) * width:
        raise _Broken("a matrix is cut in other parts")
    return cursor.array(np.float32, dim * _CENTROIDS), parts, width
