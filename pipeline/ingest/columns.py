"""Columns: how to read a table's file, and which of its columns are address, caption and page.

reads   the beginning of a parquet file, of separated text or of JSON lines
"""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable
from typing import cast

import pyarrow as pa

from pipeline.errors import BadInput
from pipeline.ingest.rows import Layout, opened, packing_of, parquet
from pipeline.settings import TableSource
from pipeline.storage import Place

_HEAD_BYTES = 1 << 18
"""Of a text, in which its columns are found."""
_BITE_BYTES = 1 << 10
_HEAD_ROWS = 100

_FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
}
_PACKED = (".gz", ".bz2", ".zst", ".zstd")
_SEPARATORS = (",", "\t", ";", "|")

# As LAION, DataComp, COYO, Conceptual Captions, SBU, RedCaps, WIT and Openverse call them; a name
# further ahead wins.
_NAMES = {
    "url": ("url", "image_url", "imageUrl", "img_url", "image", "thumbnailUrl"),
    "caption": (
        "caption",
        "text",
        "alt",
        "alt_text",
        "title",
        "caption_reference_description",
        "description",
    ),
    "page_url": ("page_url", "foreign_landing_url"),
}
_ADDRESS = re.compile(r"\s*(?:https?:)?//\S", re.IGNORECASE)


def format_of(path: Place) -> str | None:
    """The format that a file's name tells: parquet, csv, tsv or jsonl."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in _PACKED:
        suffixes.pop()
    return _FORMATS.get(suffixes[-1]) if suffixes else None


def layout_of(path: Place, source: TableSource) -> Layout | None:
    """How to read a file; None when it is empty."""
    form = source.format or format_of(path)
    if form is None:
        raise BadInput(
            f"ingest.tables: the name of {path} does not tell its format: add "
            '`format = "csv"` (or parquet, tsv, jsonl) beside the path in the settings'
        )
    try:
        if form == "parquet":
            return _parquet_layout(path, source)
        head, packing = _head(path)
    except (OSError, pa.ArrowException) as error:
        told = str(error).splitlines()[0][:200]
        raise BadInput(
            f"ingest.tables: {path} is not a whole {form} file ({told}): fetch or write it again"
        ) from None
    if not head.strip():
        return None
    if form == "jsonl":
        return _json_layout(path, source, head, packing)
    return _text_layout(path, source, form, head, packing)


def _head(path: Place) -> tuple[str, str | None]:
    """The beginning of a text, and how it is packed."""
    packing = packing_of(str(path))
    head = b""
    with opened(str(path), packing) as stream:
        try:
            while len(head) < _HEAD_BYTES and (more := stream.read(_BITE_BYTES)):
                head += more
        except OSError:
            if not head:
                raise
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BadInput(f"ingest.tables: {path} is UTF-16: write it as UTF-8")
    if len(head) >= _HEAD_BYTES:
        head = head[: head.rfind(b"\n") + 1] or head
    return head.decode("utf-8-sig", "replace"), packing


def _parquet_layout(path: Place, source: TableSource) -> Layout:
    with parquet(str(path)) as file:
        schema = file.schema_arrow
    names = schema.names
    url, caption, page_url = places = _named(path, source, names)
    for setting, place in zip(_NAMES, places, strict=True):
        kind = pa.string() if place is None else schema.field(place).type
        if place is not None and not _is_text(kind):
            raise BadInput(
                f"ingest.tables: the column {names[place]} of {path} is {kind}, not text: name "
                f"another with `{setting} = ...` beside the path in the settings"
            )
    page_name = None if page_url is None else names[page_url]
    return Layout("parquet", None, names[url], names[caption], page_name)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return kind in _TEXT


_TEXT = {
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.binary(),
    pa.large_binary(),
    pa.null(),
}


def _json_layout(path: Place, source: TableSource, head: str, packing: str | None) -> Layout:
    found: dict[str, None] = {}
    for line in head.split("\n")[:_HEAD_ROWS]:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            found.update(dict.fromkeys(row))
    if not found:
        raise BadInput(
            f"ingest.tables: {path} does not begin with JSON objects, one a line: write it so, or "
            "correct `format` beside the path in the settings"
        )
    names = list(found)
    url, caption, page_url = _named(path, source, names)
    page_name = None if page_url is None else names[page_url]
    return Layout("jsonl", packing, names[url], names[caption], page_name)


def _text_layout(
    path: Place, source: TableSource, form: str, head: str, packing: str | None
) -> Layout:
    has_quotes = form == "csv" if source.quotes is None else source.quotes
    tried = (source.separator,) if source.separator else _SEPARATORS if form == "csv" else ("\t",)
    for separator in tried:
        rows = _head_rows(head, separator, has_quotes)
        if rows and len(rows[0]) > 1:
            break
    else:
        told = " or ".join(repr(separator) for separator in tried)
        raise BadInput(
            f"ingest.tables: {path} does not begin with cells that {told} parts: name another "
            "with `separator = ...` beside the path in the settings"
        )
    has_header = source.header
    if has_header is None:
        has_header = not any(_ADDRESS.match(cell) for cell in rows[0])
    places = _named(path, source, rows[0]) if has_header else _placed(path, source, rows)
    return Layout(
        "text",
        packing,
        *places,
        separator=separator,
        has_quotes=has_quotes,
        has_header=has_header,
        width=len(rows[0]),
    )


def _head_rows(head: str, separator: str, has_quotes: bool) -> list[list[str]]:
    lines = [f"{line}\n" for line in head.split("\n") if line.strip()]
    if not has_quotes:
        return [line.rstrip("\r\n").split(separator) for line in lines[:_HEAD_ROWS]]
    reader = csv.reader(lines, delimiter=separator)
    rows: list[list[str]] = []
    while len(rows) < _HEAD_ROWS:
        try:
            rows.append(next(reader))
        except csv.Error:
            continue
        except StopIteration:
            break
    return rows


_Places = tuple[int, int, int | None]
"""Of address, caption and page among the columns, from 0 on."""


def _named(path: Place, source: TableSource, names: list[str]) -> _Places:
    """The places of the columns that are named so, or that the settings name."""
    folded = [name.strip().casefold() for name in names]
    found: list[int | None] = []
    for setting, usual in _NAMES.items():
        given = getattr(source, setting)
        wanted = usual if given is None else (given,)
        places = [place for name in wanted if (place := _place(name, names, folded)) is not None]
        if not places and (given is not None or setting != "page_url"):
            told = " or ".join(str(name) for name in wanted)
            raise BadInput(
                f"ingest.tables: {path} has no column {told} (it has {_listed(names)}): name it "
                f"with `{setting} = ...` beside the path in the settings"
            )
        found.append(places[0] if places else None)
    return cast(_Places, tuple(found))


def _place(name: str | int, names: list[str], folded: list[str]) -> int | None:
    if isinstance(name, int):
        return name - 1 if 0 < name <= len(names) else None
    for among, sought in ((names, name), (folded, name.casefold())):
        if sought in among:
            return among.index(sought)
    return None


def _placed(path: Place, source: TableSource, rows: list[list[str]]) -> _Places:
    """The places of the columns of a text without names: as the settings say, or as it shows: most
    cells of one column are addresses, and one other column is left for the caption."""
    width = len(rows[0])
    given = {setting: getattr(source, setting) for setting in _NAMES}
    for setting, place in given.items():
        if place is not None and not (isinstance(place, int) and 0 < place <= width):
            raise BadInput(
                f"ingest.tables: {path} has no names of columns (it begins with {_listed(rows[0])})"
                f": give `{setting}` as a place from 1 to {width} in the settings"
            )
    url, caption, page_url = (None if place is None else place - 1 for place in given.values())
    if url is None:
        addresses = Counter(
            place for cells in rows for place, cell in enumerate(cells) if _ADDRESS.match(cell)
        )
        best = addresses.most_common(1)
        url = best[0][0] if best and best[0][1] * 2 > len(rows) else None
    if caption is None and url is not None and width == 2:
        caption = 1 - url
    if url is None or caption is None or max(url, caption) >= width:
        raise BadInput(
            f"ingest.tables: {path} has no names of columns (it begins with {_listed(rows[0])}): "
            "say which are meant with `url = 1`, `caption = 2` (places) in the settings"
        )
    return url, caption, page_url


def _listed(names: Iterable[object]) -> str:
    told = ", ".join(str(name) for name in names)
    return told if len(told) <= 300 else f"{told[:300]}..."
