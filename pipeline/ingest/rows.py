"""Rows: what one part of a table's file holds, row by row.

reads   a parquet file, separated text (CSV, TSV) or JSON lines; text may be packed
"""

import codecs
import csv
import inspect
import io
import json
from collections.abc import Generator, Iterator
from typing import Any, BinaryIO, cast

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import BadInput
from pipeline.ingest.links import BATCH_CHARS, BATCH_ROWS, UNREADABLE_FILE, Link, as_columns
from pipeline.text import encodable

MAX_LINE_BYTES = 1 << 20
"""A longer line is no row: captions and addresses have some thousand bytes."""
MAX_CELL_CHARS = 1 << 17
"""What a quote that is never closed can swallow."""
UNREADABLE_ROW = Link(None, None, None, "unreadable row")

Column = str | int
"""A name; of separated text the place, from 0 on."""


class Layout(msgspec.Struct, frozen=True):
    """How a file is to be read."""

    form: str
    """parquet, text or jsonl."""
    packing: str | None
    """gzip, bz2, zstd or none."""
    url: Column
    caption: Column
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
    if part.layout.form == "parquet":
        yield from _parquet(part)
        return
    read = _json if part.layout.form == "jsonl" else _quoted if part.layout.has_quotes else _plain
    yield from as_columns(read(part))


def opened(path: str, packing: str | None) -> BinaryIO:
    """The bytes of a file, unpacked."""
    if packing is None:
        return open(path, "rb")  # noqa: PTH123
    stream = pa.CompressedInputStream(pa.OSFile(path), packing)
    # Small bites, so that less is lost before a break.
    return cast(BinaryIO, io.BufferedReader(stream, 1 << 13))


def packing_of(path: str) -> str | None:
    """How a file is packed, by its first bytes."""
    with open(path, "rb") as stream:  # noqa: PTH123
        magic = stream.read(4)
    for packing, begin in (("gzip", b"\x1f\x8b"), ("bz2", b"BZh"), ("zstd", b"\x28\xb5\x2f\xfd")):
        if magic.startswith(begin):
            return packing
    return None


# -- parquet -------------------------------------------------------------------------------


def _parquet(part: Part) -> Iterator[list[Any]]:
    layout = part.layout
    names = [layout.url, layout.caption, *([layout.page_url] if layout.page_url else [])]
    try:
        with pq.ParquetFile(part.path, page_checksum_verification=True) as file:
            groups = list(range(part.start, part.stop))
            rows = _rows_per_batch(file.metadata, groups)
            for batch in file.iter_batches(rows, groups, names, use_threads=False):
                found = [
                    _text(batch.column(batch.schema.get_all_field_indices(n)[0])) for n in names
                ]
                nothing = pa.nulls(len(batch), pa.string())
                yield [*found, *[nothing] * (4 - len(found))]
    except (OSError, pa.ArrowException) as error:
        told = str(error).splitlines()[0][:200]
        raise BadInput(
            f"ingest.tables: {part.path} cannot be read to its end ({told}): fetch it again"
        ) from None


def _rows_per_batch(footer: pq.FileMetaData, groups: list[int]) -> int:
    """Fewer where rows are long."""
    sizes = [footer.row_group(group) for group in groups]
    row_bytes = max((size.total_byte_size // max(1, size.num_rows) for size in sizes), default=0)
    return max(1, min(BATCH_ROWS, BATCH_CHARS // max(1, row_bytes)))


def _text(column: pa.Array) -> pa.Array:
    """A column of strings or bytes as strings; bytes that are no UTF-8 are replaced."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    column = column.cast(pa.binary())
    try:
        text = column.cast(pa.string())
        text.validate(full=True)
    except pa.ArrowInvalid:
        mended = [None if v is None else v.decode("utf-8", "replace") for v in column.to_pylist()]
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
    names = {"url": layout.url, "caption": layout.caption, "page_url": layout.page_url}
    used = {field: cast(str, name) for field, name in names.items() if name is not None}
    row = msgspec.defstruct("Row", [(field, str | None, None) for field in used], rename=used)
    decode = msgspec.json.Decoder(row).decode
    for line in _lines(part):
        if not isinstance(line, bytes):
            yield line
        elif line := line.strip():
            try:
                found: Any = decode(line)
                yield Link(found.url, found.caption, getattr(found, "page_url", None))
            except (ValueError, RecursionError):
                yield _any_json(line, used)


def _any_json(line: bytes, used: dict[str, str]) -> Link:
    """The same of what the quick way refuses: half a surrogate pair, a stray byte, NaN."""
    try:
        row = json.loads(line.decode("utf-8", "replace"))
        values = {field: row.get(name) for field, name in used.items()}
    except (ValueError, AttributeError, RecursionError):
        return UNREADABLE_ROW
    if not all(isinstance(value, str | None) for value in values.values()):
        return UNREADABLE_ROW
    texts = {field: encodable(value) if value else None for field, value in values.items()}
    return Link(texts["url"], texts["caption"], texts.get("page_url"))
