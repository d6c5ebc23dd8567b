"""Parquet files: read wherever they lie, from a store by ranges and in few requests."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.storage import Place

T = TypeVar("T")

_AT_ONCE = 16
"""Requests: what is asked of each file is small, and the answer is waited for."""
_TAIL_BYTES = 1 << 20
"""Of a file, fetched at first: the footer, and the whole of a small file."""
_HELD_FILES = 8
"""Of a dataset, whose tails are kept: pyarrow reads about five files at a time."""

Span = tuple[int, int]
_Held = dict[Place, tuple[int, bytes]]


def of_each(ask: Callable[[Place], T], where: Sequence[Place]) -> Iterator[T]:
    """`ask` of every place, many at a time, in their order."""
    if len(where) < 2:
        yield from map(ask, where)
        return
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield from pool.map(ask, where)


def opened(
    where: Place, columns: Sequence[str] | None = None, groups: Iterable[int] | None = None
) -> pq.ParquetFile:
    """A file to read those columns and row groups from; mapped into memory on a disk.

    Raises FileNotFoundError, and ArrowInvalid for what is no parquet.
    """
    if not storage.is_remote(where):
        return pq.ParquetFile(where, memory_map=True)
    ranges = _Ranges(where)
    file = pq.ParquetFile(ranges)
    chosen = range(file.metadata.num_row_groups) if groups is None else groups
    ranges.spans = [
        span for group in chosen if (span := _span(file.metadata.row_group(group), columns))
    ]
    return file


def rows(files: Sequence[Place]) -> int:
    """How many there are in all, by the footers."""
    return sum(of_each(lambda file: int(footer(file).num_rows), files))


def group_rows(file: Place) -> list[int]:
    """How many there are in each row group."""
    told = footer(file)
    return [told.row_group(group).num_rows for group in range(told.num_row_groups)]


def schemas(files: Sequence[Place]) -> list[pa.Schema]:
    """The columns of each file."""
    return list(of_each(lambda file: footer(file).schema.to_arrow_schema(), files))


def tables(files: Sequence[Place], columns: list[str] | None = None) -> Iterator[pa.Table]:
    """What each file holds, some columns of it."""
    return of_each(lambda file: _table(file, columns), files)


def dataset(files: Sequence[Place], schema: pa.Schema | None = None) -> ds.Dataset:
    """The files as one, to be read by a condition; the schema is the first one's, if not given."""
    if not any(storage.is_remote(file) for file in files):
        return ds.dataset([str(file) for file in files], schema=schema, format="parquet")
    kind = ds.ParquetFileFormat()
    held: _Held = {}
    ranges = of_each(lambda file: _Ranges(file, held), files)
    fragments = [kind.make_fragment(pa.PythonFile(each, mode="r")) for each in ranges]
    return ds.FileSystemDataset(fragments, schema or fragments[0].physical_schema, kind)


def footer(file: Place) -> pq.FileMetaData:
    """What a file tells of itself. Raises FileNotFoundError, and ArrowInvalid."""
    return pq.read_metadata(_Ranges(file) if storage.is_remote(file) else file)


def _table(file: Place, columns: list[str] | None) -> pa.Table:
    if not storage.is_remote(file):
        return pq.ParquetFile(file).read(columns=columns)
    with opened(file, columns) as remote:
        return remote.read(columns=columns)


def _span(group: pq.RowGroupMetaData, columns: Sequence[str] | None) -> Span | None:
    """Where a row group has the columns; None where others take most of the room between them."""
    begins, wanted, end = [], 0, 0
    for place in range(group.num_columns):
        chunk = group.column(place)
        if columns is not None and chunk.path_in_schema.split(".")[0] not in columns:
            continue
        begin = chunk.data_page_offset
        if chunk.has_dictionary_page and chunk.dictionary_page_offset:
            begin = min(begin, chunk.dictionary_page_offset)
        begins.append(begin)
        wanted += chunk.total_compressed_size
        end = max(end, begin + chunk.total_compressed_size)
    if not begins or end - min(begins) > 2 * wanted:
        return None
    return min(begins), end


class _Ranges:
    """An object as a file. What is read of a span fetches all of it, and the last one is kept in
    `held`, of files that share it those of the last few."""

    def __init__(self, where: Place, held: _Held | None = None) -> None:
        self._where, self._at = where, 0
        size = storage.size(where)
        if size is None:
            raise FileNotFoundError(str(where))
        self._size = size
        self._held: _Held = {} if held is None else held
        self.closed = False
        self.spans: list[Span] = [(max(0, size - _TAIL_BYTES), size)]

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_CUR: self._at, os.SEEK_END: self._size}.get(whence, 0)
        return self._at

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True
        self._held.pop(self._where, None)

    def read(self, size: int = -1) -> bytes:
        stop = self._size if size < 0 else min(self._at + size, self._size)
        found = self._between(self._at, stop)
        self._at = stop
        return found

    def _between(self, begin: int, stop: int) -> bytes:
        first, held = self._held.get(self._where, (0, b""))
        if not first <= begin <= stop <= first + len(held):
            span = next((s for s in self.spans if s[0] <= begin and stop <= s[1]), None)
            if span is None:
                return storage.read_at(self._where, begin, stop - begin)
            first, held = span[0], storage.read_at(self._where, span[0], span[1] - span[0])
            self._held[self._where] = first, held
            for oldest in list(self._held)[:-_HELD_FILES]:  # a list: pyarrow's threads add to it
                self._held.pop(oldest, None)
        return held[begin - first : stop - first]
