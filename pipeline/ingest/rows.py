"""Rows: what one part of a source's file holds, row by row.

reads   a parquet file, separated text (CSV, TSV) or JSON lines; a WAT or WARC file; text and
        archives may be packed
"""

import codecs
import csv
import inspect
import io
import json
from collections.abc import Generator, Iterator
from operator import attrgetter
from typing import Any, BinaryIO, cast

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import inputs, storage
from pipeline.errors import BadInput
from pipeline.ingest.links import (
    BATCH_CHARS,
    BATCH_ROWS,
    UNREADABLE_FILE,
    Link,
    as_columns,
    links_in_wat,
)
from pipeline.ingest.pages import links_in_warc
from pipeline.storage import is_address
from pipeline.text import encodable

MAX_LINE_BYTES = 1 << 20
"""A longer line is no row: captions and addresses have some thousand bytes."""
MAX_CELL_CHARS = 1 << 17
"""What a quote that is never closed can swallow."""
_BITE_ROWS = 256
"""Of parquet, decoded at a time: a small dictionary can stand for any length of text."""
UNREADABLE_ROW = Link(None, None, reason="unreadable row")

Column = str | int
"""A name; of separated text the place, from 0 on."""


class Layout(msgspec.Struct, frozen=True):
    """How a file is to be read."""

    form: str
    """parquet, text or jsonl; wat or warc, of which nothing else is told."""
    packing: str | None = None
    """Of text: gzip, bz2, zstd or none."""
    url: Column = 0
    caption: Column = 0
    page_url: Column | None = None
    separator: str = ","
    has_quotes: bool = True
    has_header: bool = True
    width: int = 0
    """Cells of a row."""


class Part(msgspec.Struct, frozen=True):
    """What one task reads: bytes from `start` to `stop`, or so many row groups of parquet. A row
    belongs to the part that it begins in."""

    path: str
    layout: Layout
    start: int
    stop: int


def batches_in(part: Part) -> Iterator[list[Any]]:
    """The rows of a part as columns url, caption, page_url, reason. Raises BadInput when a parquet
    file breaks off; a text that does is told as a row with a reason."""
    inputs.expect(part.path)
    form = part.layout.form
    if form == "parquet":
        yield from _parquet(part)
    elif form in ("wat", "warc"):
        yield from as_columns((links_in_wat if form == "wat" else links_in_warc)(part.path))
    else:
        read = _json if form == "jsonl" else _quoted if part.layout.has_quotes else _plain
        yield from as_columns(read(part))


def opened(path: str, packing: str | None) -> BinaryIO:
    """The bytes of a file, unpacked."""
    if packing is None:
        return inputs.opened(path)
    packed = pa.PythonFile(inputs.opened(path), "r") if is_address(path) else pa.OSFile(path)
    stream = pa.CompressedInputStream(packed, packing)
    # Small bites, so that less is lost before a break.
    return cast(BinaryIO, io.BufferedReader(stream, 1 << 13))


def packing_of(path: str) -> str | None:
    """How a file is packed, by its first bytes."""
    magic = storage.read_at(storage.place(path), 0, 4)
    for packing, begin in (("gzip", b"\x1f\x8b"), ("bz2", b"BZh"), ("zstd", b"\x28\xb5\x2f\xfd")):
        if magic.startswith(begin):
            return packing
    return None


def parquet(path: str, **how: Any) -> pq.ParquetFile:
    """A parquet file, of which only what is asked for is read."""
    if not is_address(path):
        return pq.ParquetFile(path, **how)
    # Neighbouring columns are asked for together.
    return pq.ParquetFile(storage.opened(storage.place(path), 0), pre_buffer=True, **how)


# -- parquet -------------------------------------------------------------------------------


def _parquet(part: Part) -> Iterator[list[Any]]:
    layout = part.layout
    names = [layout.url, layout.caption, *([layout.page_url] if layout.page_url else [])]
    try:
        with parquet(part.path, page_checksum_verification=True) as file:
            groups = list(range(part.start, part.stop))
            held: list[list[pa.Array]] = []
            rows = size = 0
            for batch in file.iter_batches(_BITE_ROWS, groups, names, use_threads=False):
                places = [batch.schema.get_all_field_indices(name)[0] for name in names]
                held.append([_bytes(batch.column(place)) for place in places])
                rows += len(batch)
                size += sum(column.nbytes for column in held[-1])
                if rows >= BATCH_ROWS or size >= BATCH_CHARS:
                    yield _joined(held)
                    held, rows, size = [], 0, 0
            if held:
                yield _joined(held)
    except (OSError, pa.ArrowException) as error:
        told = str(error).splitlines()[0][:200]
        raise BadInput(
            f"ingest.tables: {part.path} cannot be read to its end ({told}): fetch it again"
        ) from None


def _bytes(column: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column.cast(pa.binary())


def _joined(bites: list[list[pa.Array]]) -> list[pa.Array]:
    """Bites of columns of bytes as four columns of strings."""
    found = [readable(pa.concat_arrays(column)) for column in zip(*bites, strict=True)]
    return [*found, *[pa.nulls(len(found[0]), pa.string())] * (4 - len(found))]


def readable(column: pa.Array) -> pa.StringArray:
    """A column of strings or bytes as strings; what is no UTF-8 is replaced: Python would stop."""
    try:
        text = column.cast(pa.string())
        text.validate(full=True)
    except pa.ArrowInvalid:
        raw = column.cast(pa.binary()).to_pylist()
        mended = [None if value is None else value.decode("utf-8", "replace") for value in raw]
        return pa.array(mended, pa.string())
    return text


# -- text ----------------------------------------------------------------------------------


def _lines(part: Part) -> Iterator[bytes | Link]:
    """The lines that begin in a part, with their ends; what is none is a link with a reason."""
    with opened(part.path, part.layout.packing) as stream:
        at = part.start
        if at:
            # Up to the end of the line that the byte before belongs to.
            stream.seek(at - 1)
            at += _skip_line(stream) - 1
        try:
            while part.stop < 0 or at < part.stop:
                line = stream.readline(MAX_LINE_BYTES)
                if not line:
                    return
                is_first, at = at == 0, at + len(line)
                if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
                    at += _skip_line(stream)
                    yield UNREADABLE_ROW
                else:
                    yield line.removeprefix(codecs.BOM_UTF8) if is_first else line
        except (OSError, pa.ArrowException):
            yield UNREADABLE_FILE


def _skip_line(stream: BinaryIO) -> int:
    """The bytes up to the next line."""
    skipped = 0
    while line := stream.readline(MAX_LINE_BYTES):
        skipped += len(line)
        if line.endswith(b"\n"):
            break
    return skipped


def _plain(part: Part) -> Iterator[Link]:
    """Separated text without quotes: a line is a row, a separator ends a cell."""
    layout = part.layout
    is_header = layout.has_header and part.start == 0
    for line in _lines(part):
        if not isinstance(line, bytes):
            yield line
        elif is_header:
            is_header = False
        elif cells := line.decode("utf-8", "replace").rstrip("\r\n"):
            yield _link(cells.split(layout.separator), layout)


def _quoted(part: Part) -> Iterator[Link]:
    """Separated text in which a cell may be quoted, and then hold line ends (RFC 4180).

    A quote that is never closed takes with it what it swallows up to MAX_CELL_CHARS; each of the
    lines is told as unreadable.
    """
    layout = part.layout
    lines = _lines(part)
    told: list[Link] = []
    taken = size = 0
    has_more = True

    def text() -> Generator[str, None, None]:
        """The lines up to the end, or until a row is longer than any."""
        nonlocal taken, size, has_more
        while size <= MAX_LINE_BYTES:
            line = next(lines, None)
            if line is None:
                has_more = False
                return
            if isinstance(line, bytes):
                taken += 1
                size += len(line)
                yield line.decode("utf-8", "replace")
            else:
                told.append(line)

    csv.field_size_limit(MAX_CELL_CHARS)
    is_header = layout.has_header and part.start == 0
    while has_more:
        unread = text()
        reader = csv.reader(unread, delimiter=layout.separator)
        while True:
            taken = size = 0
            try:
                cells = next(reader)
                # The text is over, and the row is not.
                is_whole = inspect.getgeneratorstate(unread) != inspect.GEN_CLOSED
            except StopIteration:
                break
            except csv.Error:
                is_whole = False
            if is_header:
                is_header = False
            elif not is_whole:
                yield from [UNREADABLE_ROW] * taken
            elif cells:
                yield _link(cells, layout)
            yield from told
            told.clear()
        yield from told
        told.clear()


def _link(cells: list[str], layout: Layout) -> Link:
    if len(cells) != layout.width:
        return UNREADABLE_ROW
    page_url = None if layout.page_url is None else cells[cast(int, layout.page_url)]
    return Link(cells[cast(int, layout.url)], cells[cast(int, layout.caption)], page_url)


def _json(part: Part) -> Iterator[Link]:
    """JSON lines: a line is an object, or it is unreadable; so is one whose caption is a list."""
    layout = part.layout
    named = (layout.url, layout.caption, layout.page_url)
    names = [cast(str, name) for name in named if name is not None]
    fields = {name: f"cell_{place}" for place, name in enumerate(names)}  # names may be equal
    row = msgspec.defstruct(
        "Row",
        [(field, str | None, None) for field in fields.values()],
        rename={field: name for name, field in fields.items()},
    )
    decode = msgspec.json.Decoder(row).decode
    cells = attrgetter(*map(fields.__getitem__, names))
    for line in _lines(part):
        if not isinstance(line, bytes):
            yield line
        elif line := line.strip():
            try:
                yield Link(*cells(decode(line)))
            except (ValueError, RecursionError):
                yield _any_json(line, names)


def _any_json(line: bytes, names: list[str]) -> Link:
    """The same of what the quick way refuses: half a surrogate pair, a stray byte, NaN."""
    try:
        row = json.loads(line.decode("utf-8", "replace"))
        values = list(map(row.get, names))
    except (ValueError, AttributeError, RecursionError):
        return UNREADABLE_ROW
    if not all(isinstance(value, str | None) for value in values):
        return UNREADABLE_ROW
    return Link(*(encodable(value) if value else None for value in values))
