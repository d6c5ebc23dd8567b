"""Tables: images in a column, as Hugging Face's datasets and others write them.

reads   parquet, and Arrow's stream files (`save_to_disk`): a column of {bytes, path}, or of bytes
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, NamedTuple, Self

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import copies, inputs
from pipeline.errors import BadInput
from pipeline.evalsets import splits
from pipeline.evalsets.names import Names, steps
from pipeline.evalsets.part import (
    BROKEN_TABLE,
    MAX_IMAGE_BYTES,
    PART_BYTES,
    PART_IMAGES,
    EvalImage,
    File,
    Part,
    rows_named,
)
from pipeline.settings import EvalSet

_IMAGE_NAMES = ("image", "img", "jpg", "jpeg", "png", "webp", "picture", "image_bytes", "bytes")
_LABEL_NAMES = ("label", "fine_label", "labels", "class", "cls", "class_name", "target", "category")
_SPLIT_NAMES = ("split", "partition")
_BATCH_ROWS = 32
_MAX_PIECES = 16
"""Into which a large row group is cut: each is read from its beginning, which is far cheaper than
what happens to an image later."""


class _Columns(NamedTuple):
    """The columns that are read, and what their labels are called."""

    image: str
    label: str | None
    split: str | None
    classes: tuple[str, ...]


@dataclass(frozen=True)
class TablePart(Part):
    """Some row groups of a parquet file, or batches of an Arrow file."""

    path: str
    prefix: str
    """What stands before `#row` in a name."""
    columns: _Columns
    groups: range
    first: int
    """The number of the first row of the first group, in its file."""
    rows: range | tuple[int, ...]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def file(self) -> str:
        """Where the first of them lies."""
        return self.path

    def only(self, names: frozenset[str]) -> Self | None:
        """The images of those names; None when there are none."""
        rows = tuple(rows_named(self.prefix, names, self.rows))
        return replace(self, rows=rows) if rows else None

    def read(self) -> Iterator[EvalImage]:
        """The images, in their order. Raises BadInput when they are paths and no bytes."""
        wanted = set(self.rows) if isinstance(self.rows, tuple) else self.rows
        columns = [name for name in (self.columns.image, self.columns.label) if name is not None]
        row, found, empty = self.first, 0, 0
        for batch in _batches(self.path, self.groups, columns):
            if row > self.rows[-1]:
                break
            places = [place for place in range(len(batch)) if row + place in wanted]
            images = batch.column(self.columns.image)
            labels = batch.column(self.columns.label) if self.columns.label else None
            for place in places:
                data = _bytes(images[place])
                label = None if labels is None else _label(labels[place], self.columns.classes)
                found, empty = found + 1, empty + (not data)
                yield EvalImage(f"{self.prefix}#{row + place}", data, self.split, label)
            row += len(batch)
        if found and found == empty:
            raise BadInput(
                f"{self.path}: `{self.columns.image}` holds no bytes of images, though perhaps "
                "their paths: save the set with the images inside"
            )


def is_table(name: str) -> bool:
    """Whether a file of this name is a table of images, perhaps."""
    return name.lower().endswith((".parquet", ".arrow"))


def parts(evalset: EvalSet, files: list[File]) -> list[Part]:
    """The images of every file, in the order of the files' names."""
    tabled = [file for file in files if is_table(file.name)]
    if not tabled and len(files) == 1:
        tabled = files  # the settings say that it is one
    if not tabled:
        raise BadInput(f"evalsets.{evalset.name}: {evalset.path} holds no .parquet or .arrow file")
    _check_pieces(evalset, tabled)
    names, asked = Names(), splits.asked_for(evalset)
    found: list[Part] = []
    for file in tabled:
        path = steps(file.name)
        found += _file_parts(evalset, file, names.own("/".join(path)), splits.of_file(path, asked))
    return found


def _check_pieces(evalset: EvalSet, files: list[File]) -> None:
    """Against the count in `test-00000-of-00003`: half a set must not pass for a whole one."""
    there: dict[tuple[str, str, int], set[int]] = defaultdict(set)
    for file in files:
        path = PurePosixPath(file.name)
        if pieces := splits.pieces(path.stem):
            there[str(path.parent), pieces[0], pieces[2]].add(pieces[1])
    for (folder, base, total), numbers in there.items():
        is_asked = splits.one_name(base) in splits.asked_for(evalset) or base == "data"
        if is_asked and len(numbers) < total and inputs.kind(evalset.path) == "folder":
            raise BadInput(
                f"evalsets.{evalset.name}: of {total} files {folder}/{base}-*-of-{total:05d} "
                f"{len(numbers)} are there: fetch the others"
            )


def _file_parts(evalset: EvalSet, file: File, prefix: str, split: str | None) -> list[Part]:
    """Neighbouring row groups, as many as make a part; with a column of splits, by split."""
    try:
        schema, groups = shape(file.path)
        columns = columns_of(evalset, file.path, schema)
        told = None
        if split is None and columns.split is not None:
            told = _column(file.path, columns.split)
    except BROKEN_TABLE as error:
        raise BadInput(f"{file.path} is not whole ({error}): fetch it again") from error
    found: list[Part] = []
    begin = first = rows = held = 0
    for number, (size, weight) in enumerate(groups):
        rows, held = rows + size, held + weight
        is_last = number == len(groups) - 1
        if is_last or rows >= PART_IMAGES or held >= PART_BYTES:
            pieces = max(1, min(_MAX_PIECES, rows // (4 * PART_IMAGES)))
            for piece in range(pieces):
                span = range(first + rows * piece // pieces, first + rows * (piece + 1) // pieces)
                part = TablePart(
                    split, file.path, prefix, columns, range(begin, number + 1), first, span
                )
                found += [part] if told is None else _by_split(part, told[span.start : span.stop])
            begin, first, rows, held = number + 1, first + rows, 0, 0
    return found


def _by_split(part: TablePart, told: list[Any]) -> list[Part]:
    rows: dict[str | None, list[int]] = defaultdict(list)
    for row, split in zip(part.rows, told, strict=True):
        rows[None if split is None else str(split)].append(row)
    return [replace(part, split=split, rows=tuple(of_it)) for split, of_it in rows.items()]


def shape(path: str) -> tuple[pa.Schema, list[tuple[int, int]]]:
    """The columns of a file, and of each group its rows and bytes."""
    here = copies.local(path)
    if not path.lower().endswith(".arrow"):
        with pq.ParquetFile(here) as file:
            footer = file.metadata
            groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
            return file.schema_arrow, [(group.num_rows, group.total_byte_size) for group in groups]
    with pa.memory_map(str(here)) as source, _ipc(source) as stream:
        return stream.schema, [(len(batch), batch.get_total_buffer_size()) for batch in stream]


def _ipc(source: Any) -> Any:
    is_file = source.read(6) == b"ARROW1"
    source.seek(0)
    if is_file:  # a file with an index at its end; read in its order all the same
        source.seek(8)
    return pa.ipc.open_stream(source)


def _batches(path: str, groups: range, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """The rows of some groups, in their order."""
    here = copies.local(path)
    try:
        if not path.lower().endswith(".arrow"):
            with pq.ParquetFile(here, memory_map=True) as file:
                yield from file.iter_batches(_BATCH_ROWS, row_groups=list(groups), columns=columns)
            return
        with pa.memory_map(str(here)) as source, _ipc(source) as stream:
            for number, batch in enumerate(stream):
                if number >= groups.stop:
                    return
                if number in groups:
                    few = batch.select(columns)
                    few.validate(full=True)  # lengths and offsets are as the file has them
                    yield few
    except BROKEN_TABLE as error:
        raise BadInput(f"{path} is not whole ({error}): fetch it again") from error


def _column(path: str, name: str) -> list[Any]:
    _, groups = shape(path)
    found: list[Any] = []
    for batch in _batches(path, range(len(groups)), [name]):
        found += batch.column(0).to_pylist()
    return found


def columns_of(evalset: EvalSet, path: str, schema: pa.Schema) -> _Columns:
    """The columns of a table that are read. Raises BadInput when they cannot be told."""
    features = _features(schema)
    image = _image_column(evalset, path, schema, features)
    label = evalset.label_column
    if label is not None and label not in schema.names:
        raise BadInput(f"evalsets.{evalset.name}: {path} has no column `{label}` for label_column")
    of_classes = [name for name, told in features.items() if told.get("_type") == "ClassLabel"]
    if label is None:
        plain = [field.name for field in schema if _is_plain(field.type)]
        label = next((name for name in _LABEL_NAMES if name in plain), None)
        if label is None and len(of_classes) == 1 and of_classes[0] in plain:
            label = of_classes[0]
    told = features.get(label or "", {}).get("names")
    classes = tuple(str(name) for name in told) if isinstance(told, list) else ()
    split = next((name for name in _SPLIT_NAMES if name in schema.names), None)
    return _Columns(image, label, split, classes)


def _features(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """What Hugging Face says of each column, in the schema's metadata."""
    try:
        told = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = told["info"]["features"]
        return {name: kind for name, kind in features.items() if isinstance(kind, dict)}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _image_column(
    evalset: EvalSet, path: str, schema: pa.Schema, features: dict[str, dict[str, Any]]
) -> str:
    able = [field.name for field in schema if _holds_images(field.type)]
    asked = evalset.image_column
    if asked is not None:
        if asked not in able:
            raise BadInput(
                f"evalsets.{evalset.name}: `{asked}` of {path} holds no images; "
                f"{', '.join(able) or 'no column'} could: correct `image_column`"
            )
        return asked
    told = [name for name in able if features.get(name, {}).get("_type") == "Image"]
    for among in (told, able):
        if len(among) == 1:
            return str(among[0])
        named = [name for name in _IMAGE_NAMES if name in among]
        if named:
            return named[0]
    what = f"several columns that could ({', '.join(able)})" if able else "no column of images"
    raise BadInput(f"evalsets.{evalset.name}: {path} has {what}: name one with `image_column`")


def _holds_images(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _is_binary(field.type) for field in kind)
    return _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_plain(kind: pa.DataType) -> bool:
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    is_word = pa.types.is_dictionary(kind) and pa.types.is_string(kind.value_type)
    return bool(pa.types.is_integer(kind) or is_text or is_word)


def _bytes(image: Any) -> bytes:
    held = image["bytes"] if isinstance(image, pa.StructScalar) and image.is_valid else image
    if not held.is_valid:
        return b""
    buffer = held.as_buffer()
    return buffer.to_pybytes() if buffer.size <= MAX_IMAGE_BYTES else b""


def _label(label: Any, classes: tuple[str, ...]) -> str | None:
    """The name of a class; Hugging Face writes -1 where it is withheld."""
    try:
        value = label.as_py()
    except UnicodeDecodeError:
        value = label.as_buffer().to_pybytes().decode("utf-8", "surrogateescape")
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            return None
        value = classes[value] if value < len(classes) else value
    return "/".join(steps(str(value))) or None if value is not None else None
