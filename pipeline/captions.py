"""Captions: those that a table or a tar holds, with the names that they have there.

Read one after the other, whatever the size of the file. Rows that cannot be read are counted.
"""

import csv
import gzip
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
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

    Rows without a name of their own are named by the file and their place in it.
    """
    if is_tar(path):
        yield from _in_tar(path, unread)
        return
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    try:
        if suffix in (".parquet", ".pq"):
            rows, names, first = _parquet(path, groups)
        elif suffix in (".csv", ".tsv"):
            rows, names, first = *_separated(path, "\t" if suffix == ".tsv" else ",", unread), 0
        else:
            rows, names, first = *_json(path, unread), 0
    except (OSError, pa.ArrowException) as error:
        raise BadInput(f"{path} cannot be read ({error}): fetch or write it again") from None
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
    file = pq.ParquetFile(path)
    footer = file.metadata
    chosen = range(footer.num_row_groups) if groups is None else groups
    # Pictures may lie in the same table, and are not read.
    names = [field.name for field in file.schema_arrow if _is_readable(field.type)]
    found = [name for name in _columns(path, names) if name is not None]
    first = sum(footer.row_group(group).num_rows for group in range(chosen.start))
    batches = file.iter_batches(1 << 13, row_groups=list(chosen), columns=found)
    return (row for batch in batches for row in batch.to_pylist()), names, first


def _is_readable(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    return kind in _TEXTS or pa.types.is_integer(kind)


def _opened(path: Path) -> TextIO:
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    return cast(TextIO, opener(path, "rt", encoding="utf-8-sig", errors="replace", newline=""))


def _separated(path: Path, separator: str, unread: Counter[str]) -> tuple[_Rows, list[str]]:
    csv.field_size_limit(min(sys.maxsize, 1 << 30))
    with _opened(path) as stream:
        names = next(csv.reader(stream, delimiter=separator), [])

    def rows() -> Iterator[dict[str, Any]]:
        with _opened(path) as stream:
            lines = csv.reader(
                (line.replace("\0", "\ufffd") for line in stream), delimiter=separator
            )
            next(lines, None)
            while True:
                try:
                    yield dict(zip(names, next(lines), strict=False))
                except csv.Error:
                    unread["no row of the table"] += 1
                except StopIteration:
                    return

    return rows(), names


def _json(path: Path, unread: Counter[str]) -> tuple[_Rows, list[str]]:
    """JSON lines; or one list, or COCO's annotations."""
    with _opened(path) as stream:
        first = stream.readline()
    try:
        begin = msgspec.json.decode(first)
    except (msgspec.DecodeError, RecursionError):
        begin = None
    if isinstance(begin, dict) and "annotations" not in begin:
        return _json_lines(path, unread), list(begin)
    try:
        with _opened(path) as stream:
            whole = msgspec.json.decode(stream.read())
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadInput(f"{path} is neither JSON lines nor JSON ({error})") from None
    rows = whole.get("annotations") if isinstance(whole, dict) else whole
    rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return rows, list(rows[0]) if rows else []


def _json_lines(path: Path, unread: Counter[str]) -> Iterator[dict[str, Any]]:
    with _opened(path) as stream:
        for line in stream:
            try:
                row = msgspec.json.decode(line)
            except (msgspec.DecodeError, RecursionError):
                row = None
            if isinstance(row, dict):
                yield row
            elif line.strip():
                unread["no row of the table"] += 1


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
    held: dict[str, dict[str, bytes]] = {}
    for member in members(path, lambda name: name.lower().endswith((".txt", ".json"))):
        if isinstance(member, Damage):
            unread[f"{path.name} at byte {member.at}: {member.what}"] += 1
            continue
        found = parted(member.name)
        if found is not None and member.data is not None:
            held.setdefault(found[0], {}).setdefault(suffix_of(found[1]), member.data)
    for key, texts in held.items():
        caption = of_sample(texts.get("txt"), texts.get("json"))
        lines = [line for line in (caption or "").splitlines() if line.strip()]
        for number, line in enumerate(lines):
            name = f"{path.name}/{key}"
            yield Caption(name if len(lines) == 1 else f"{name}.{number}", line.strip(), name)
