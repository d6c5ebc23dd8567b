"""Captions: those that a table or a tar holds, with the names that they have there.

Read one after the other, whatever the size of the file. Rows that cannot be read are counted.
"""

import csv
import gzip
import zlib
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TextIO, cast

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import BadInput
from pipeline.members import Damage, members
from pipeline.text import encodable

TABLES = (".parquet", ".pq", ".csv", ".tsv", ".jsonl", ".ndjson", ".json")
TARS = (".tar", ".tar.gz", ".tgz")

# As COCO, Flickr, Conceptual Captions, LAION and Hugging Face call them; the first that is there.
_CAPTION = ("caption", "text", "captions", "sentence", "sentences", "alt", "alt_text", "raw")
_ID = ("pair_id", "caption_id", "id", "sentid", "key", "__key__", "uid")
_IMAGE = ("image", "image_id", "filename", "file_name", "imgid", "image_path", "url")
_TEXTS = (pa.string(), pa.large_string(), pa.string_view())

_MAX_LINE = 1 << 20
"""Characters of a row of text; longer ones are no captions."""
_MAX_FIELD = 1 << 16
"""Characters of a field of a table, so that a quote that is never closed ends somewhere."""
CUT_OFF = f"what is behind {_MAX_FIELD:,} characters of a caption"
_MAX_MENDED = 1000
"""Such quotes in a file, behind each of which the rows are read once more."""
_NO_ROW = "no row of the table"
_MAX_JSON = 1 << 29
"""Characters of a file that is one JSON."""
_MAX_TEXT_BYTES = 1 << 20
"""Of a text in a tar."""
_BROKEN = (OSError, EOFError, zlib.error, ValueError, OverflowError, pa.ArrowException)
"""What damaged files raise, and texts that are no UTF-8, wherever in the file they are."""


class Caption(NamedTuple):
    """A caption, and where it is from."""

    id: str
    text: str
    image: str | None
    """The image that it is of, where that is told."""


class _Columns(NamedTuple):
    caption: str
    id: str | None
    image: str | None


def is_table(path: Path) -> bool:
    return path.name.lower().removesuffix(".gz").endswith(TABLES)


def is_tar(path: Path) -> bool:
    return path.name.lower().endswith(TARS)


def read(path: Path, unread: Counter[str], groups: range | None = None) -> Iterator[Caption]:
    """The captions of a file, in order; of a parquet only of some row groups, if told.

    Rows without a name of their own are named by the file and their place in it. Raises BadInput
    where the file cannot be read, or breaks off.
    """
    if not path.is_file():
        raise BadInput(f"{path} is no file: name one")  # to open a pipe would take forever
    try:
        yield from _in_tar(path, unread) if is_tar(path) else _in_table(path, unread, groups)
    except _BROKEN as error:
        raise BadInput(f"{path} cannot be read ({error}): fetch or write it again") from None


def _in_table(path: Path, unread: Counter[str], groups: range | None) -> Iterator[Caption]:
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    if suffix in (".parquet", ".pq"):
        rows, names, first = _parquet(path, groups)
    elif suffix in (".csv", ".tsv"):
        rows, names, first = *_separated(path, "\t" if suffix == ".tsv" else ",", unread), 0
    else:
        rows, names, first = *_json(path, unread), 0
    columns = _columns(path, names)
    for place, row in enumerate(rows, first):
        captions = row.get(columns.caption)
        texts = captions if isinstance(captions, list) else [captions]
        name = f"{path.name}#{place}" if columns.id is None else str(row.get(columns.id))
        image = None if columns.image is None else row.get(columns.image)
        for number, text in enumerate(texts):
            if not isinstance(text, str):
                unread["a row without a caption"] += 1
                continue
            if len(text) > _MAX_FIELD:
                unread[CUT_OFF] += 1
                text = text[:_MAX_FIELD]
            own = name if len(texts) == 1 else f"{name}.{number}"
            yield Caption(encodable(own), encodable(text), None if image is None else str(image))


def _columns(path: Path, names: list[str]) -> _Columns:
    """The columns that are named so."""
    folded = {name.strip().casefold(): name for name in reversed(names)}
    caption, own, image = (
        next((folded[name] for name in usual if name in folded), None)
        for usual in (_CAPTION, _ID, _IMAGE)
    )
    if caption is None:
        told = ", ".join(names)[:300]
        raise BadInput(f"{path} has no column caption or text (it has {told}): name it so")
    return _Columns(caption, own, image)


_Rows = Iterable[dict[str, Any]]


def _parquet(path: Path, groups: range | None) -> tuple[_Rows, list[str], int]:
    footer, schema = pq.read_metadata(path), pq.read_schema(path)
    chosen = range(footer.num_row_groups) if groups is None else groups
    # Pictures may lie in the same table, and are not read.
    names = [field.name for field in schema if _is_readable(field.type)]
    found = [name for name in _columns(path, names) if name is not None]
    first = sum(footer.row_group(group).num_rows for group in range(chosen.start))
    # A text that stands in every row may have a gigabyte: it is held once.
    texts = [name for name in found if schema.field(name).type in _TEXTS]
    file = pq.ParquetFile(path, read_dictionary=texts)
    batches = file.iter_batches(1 << 13, row_groups=list(chosen), columns=found)
    return (row for batch in batches for row in _rows_of(batch)), names, first


def _rows_of(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    columns = [_values(column) for column in batch.columns]
    for row in zip(*columns, strict=True):
        yield dict(zip(batch.schema.names, row, strict=True))


def _values(column: pa.Array) -> list[Any]:
    if not pa.types.is_dictionary(column.type):
        return cast(list[Any], column.to_pylist())
    try:
        values = column.dictionary.to_pylist()
    except UnicodeDecodeError:
        held = [text.as_buffer() for text in column.dictionary]
        values = [None if text is None else bytes(text).decode("utf-8", "replace") for text in held]
    return [None if place is None else values[place] for place in column.indices.to_pylist()]


def _is_readable(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    return kind in _TEXTS or pa.types.is_integer(kind)


def _opened(path: Path) -> TextIO:
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    return cast(TextIO, opener(path, "rt", encoding="utf-8-sig", errors="replace", newline=""))


def _lines(stream: TextIO, unread: Counter[str]) -> Iterator[str]:
    """The lines of a text, without those that are too long to be read."""
    is_whole = True
    while line := stream.readline(_MAX_LINE):
        was_whole, is_whole = is_whole, len(line) < _MAX_LINE or line.endswith(("\n", "\r"))
        if was_whole and is_whole:
            yield line
        elif is_whole:
            unread[_NO_ROW] += 1
    if not is_whole:
        unread[_NO_ROW] += 1


def _separated(path: Path, separator: str, unread: Counter[str]) -> tuple[_Rows, list[str]]:
    rows = _split_rows(path, separator, unread)
    names = next(rows, [])
    return (dict(zip(names, row, strict=False)) for row in rows), names


def _split_rows(path: Path, separator: str, unread: Counter[str]) -> Iterator[list[str]]:
    """The fields of each row. Where a quote is never closed, the row is lost that it stands in, and
    not those that it takes in."""
    csv.field_size_limit(_MAX_FIELD)
    again, taken, feeding = deque[str](), list[str](), list[bool]()
    with _opened(path) as stream:
        lines = _lines(stream, unread)

        def fed() -> Iterator[str]:
            feeding.append(True)
            while line := again.popleft() if again else next(lines, ""):
                taken.append(line)
                yield line.replace("\0", "\ufffd")
            feeding.clear()

        reader, mended = csv.reader(fed(), delimiter=separator), 0
        while True:
            taken.clear()
            try:
                row = next(reader, None)
                # Only within a quote the reader asks for a line more than there are.
                is_open = row is not None and not feeding and len(taken) > 1
            except csv.Error:
                row, is_open = None, True
            if is_open:
                mended += 1
                if mended <= _MAX_MENDED:
                    again.extendleft(reversed(taken[1:]))
                unread[_NO_ROW] += 1 if mended <= _MAX_MENDED else len(taken)
                reader = csv.reader(fed(), delimiter=separator)
            elif row is None:
                return
            else:
                yield row


def _json(path: Path, unread: Counter[str]) -> tuple[_Rows, list[str]]:
    """JSON lines; or one list, or COCO's annotations."""
    if path.name.lower().removesuffix(".gz").endswith((".jsonl", ".ndjson")):
        lines = _json_lines(path, unread)
        row = next(lines, None)
        return ([], []) if row is None else (chain([row], lines), list(row))
    with _opened(path) as stream:
        first = stream.readline(_MAX_LINE)
    try:
        begin = msgspec.json.decode(first)
    except (msgspec.DecodeError, RecursionError):
        begin = None
    if isinstance(begin, dict) and "annotations" not in begin:
        return _json_lines(path, unread), list(begin)
    with _opened(path) as stream:
        text = stream.read(_MAX_JSON + 1)
    if len(text) > _MAX_JSON:
        raise BadInput(f"{path} is one JSON of over {_MAX_JSON:,} characters: write it in lines")
    try:
        whole = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadInput(f"{path} is neither JSON lines nor JSON ({error})") from None
    rows = whole.get("annotations") if isinstance(whole, dict) else whole
    rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return rows, list(rows[0]) if rows else []


def _json_lines(path: Path, unread: Counter[str]) -> Iterator[dict[str, Any]]:
    with _opened(path) as stream:
        for line in _lines(stream, unread):
            try:
                row = msgspec.json.decode(line)
            except (msgspec.DecodeError, RecursionError):
                row = None
            if isinstance(row, dict):
                yield row
            elif line.strip():
                unread[_NO_ROW] += 1


# -- WebDataset ----------------------------------------------------------------------------


class _Text(msgspec.Struct):
    """What a sample's json may tell of its caption."""

    caption: Any = None
    text: Any = None


def of_sample(text: bytes | None, described: bytes | None) -> str | None:
    """The caption of a sample, from its txt or else its json; several stand on lines."""
    if text is not None:
        return encodable(text.decode("utf-8", "replace")).strip() or None
    if described is None:
        return None
    try:
        found = msgspec.json.decode(described, type=_Text)
    except (msgspec.DecodeError, RecursionError):
        return None
    told = found.text if found.caption is None else found.caption
    captions = told if isinstance(told, list) else [told]
    lines = [line.strip() for line in captions if isinstance(line, str) and line.strip()]
    return encodable("\n".join(lines)) or None


def parted(name: str) -> tuple[str, str] | None:
    """The key and the extension of a member, as webdataset tells them; None where it has none."""
    folder, slash, base = name.rpartition("/")
    stem, dot, extension = base.partition(".")
    return (folder + slash + stem, extension.lower()) if dot and stem else None


def suffix_of(extension: str) -> str:
    """What an extension says of the format: `jpg` of `a.b.jpg`."""
    return extension.rpartition(".")[2]


def _in_tar(path: Path, unread: Counter[str]) -> Iterator[Caption]:
    """The captions of a tar's samples: of each line one, as clip_benchmark writes them."""
    key, held = "", dict[str, bytes]()
    for member in members(path, lambda name: name.lower().endswith((".txt", ".json"))):
        if isinstance(member, Damage):
            unread[f"{path.name} at byte {member.at}: {member.what}"] += 1
            continue
        found = parted(member.name)
        if found is None or member.data is None:
            continue
        if len(member.data) > _MAX_TEXT_BYTES:
            unread["a text too long to be read"] += 1
            continue
        if found[0] != key:
            yield from _of_texts(f"{path.name}/{key}", held)
            key, held = found[0], {}
        held.setdefault(suffix_of(found[1]), member.data)
    yield from _of_texts(f"{path.name}/{key}", held)


def _of_texts(name: str, held: dict[str, bytes]) -> Iterator[Caption]:
    caption = of_sample(held.get("txt"), held.get("json"))
    lines = [line for line in (caption or "").splitlines() if line.strip()]
    for number, line in enumerate(lines):
        yield Caption(name if len(lines) == 1 else f"{name}.{number}", line.strip(), name)
