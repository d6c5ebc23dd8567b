"""Predictions: files of what models answered for evaluation images, read as users have them.

CSV, JSON lines or parquet, one row an image: `evalset` (or `source`; needless when one set is
audited), `eval_id` (or `image`), then `correct`, or `prediction` with `label`; `model` where there
are several. A row that does not fit is counted with its reason.
"""

import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import copies
from pipeline.errors import BadInput

REASONS = (
    "unreadable row",
    "no image named",
    "unknown set",
    "unknown image",
    "neither right nor wrong",
    "given twice",
)
_TRUE, _FALSE = ("true", "1", "1.0"), ("false", "0", "0.0")
_NAMES = {"evalset": ("evalset", "source"), "eval_id": ("eval_id", "image")}
_COLUMNS = ("evalset", "source", "eval_id", "image", "model", "correct", "prediction", "label")
_MAX_LINE = 1 << 20
"""Bytes of a row of text; longer ones are no predictions."""
_EXAMPLES = 3


class Prediction(NamedTuple):
    """Whether a model was right about an image."""

    model: str
    evalset: str
    eval_id: str
    is_right: bool


@dataclass(frozen=True)
class Predictions:
    """What was read: right or wrong by model and set, then by image."""

    right: Mapping[tuple[str, str], Mapping[str, bool]]
    rows: int
    refused: Mapping[str, int]
    """Rows that did not fit, by reason."""
    examples: Mapping[str, Sequence[str]]
    """Some of them, by reason."""


def read(files: Sequence[str], known: Mapping[str, set[str]]) -> Predictions:
    """The predictions in `files` for the images of `known`, by evaluation set.

    Raises BadInput when a file cannot be read, or has the wrong columns, or when nothing fits.
    """
    right: dict[tuple[str, str], dict[str, bool]] = {}
    refused: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}
    rows = 0
    for file in files:
        for number, row in enumerate(_rows(file), 1):
            rows += 1
            found = _prediction(row, known)
            if isinstance(found, Prediction):
                of_set = right.setdefault((found.model, found.evalset), {})
                if found.eval_id not in of_set:
                    of_set[found.eval_id] = found.is_right
                    continue
                found = "given twice"
            refused[found] += 1
            some = examples.setdefault(found, [])
            if len(some) < _EXAMPLES:
                some.append(f"{Path(file).name}, row {number:,}")
    if not right:
        told = ", ".join(f"{why} {count:,}" for why, count in refused.most_common()) or "no row"
        example = next((min(ids) for ids in known.values() if ids), "none")
        raise BadInput(
            f"{', '.join(files)}: no prediction fits ({told}): the sets are "
            f"{', '.join(sorted(known))}, and an image is called for example {example!r}"
        )
    return Predictions(right, rows, refused, examples)


def _prediction(row: dict[str, Any] | None, known: Mapping[str, set[str]]) -> Prediction | str:
    """The row as a prediction, or why it is none."""
    if row is None:
        return "unreadable row"
    evalset = _first(row, _NAMES["evalset"])
    if evalset is None and len(known) == 1:
        evalset = next(iter(known))
    if evalset is None or evalset not in known:
        return "unknown set"
    eval_id = _first(row, _NAMES["eval_id"])
    if not eval_id:
        return "no image named"
    if eval_id not in known[evalset]:
        return "unknown image"
    is_right = _is_right(row)
    if is_right is None:
        return "neither right nor wrong"
    return Prediction(_text(row.get("model")) or "model", evalset, eval_id, is_right)


def _is_right(row: dict[str, Any]) -> bool | None:
    correct = row.get("correct")
    if isinstance(correct, bool):
        return correct
    if correct is not None and correct != "":
        told = str(correct).strip().lower()
        return True if told in _TRUE else False if told in _FALSE else None
    prediction, label = _text(row.get("prediction")), _text(row.get("label"))
    return prediction.strip() == label.strip() if prediction and label else None


def _first(row: dict[str, Any], names: Sequence[str]) -> str | None:
    return next((_text(row[name]) for name in names if row.get(name) is not None), None)


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a column of classes with one gap is a column of floats
    return str(value) if isinstance(value, (str, int, float)) else None


# -- files ---------------------------------------------------------------------------------


def _rows(file: str) -> Iterator[dict[str, Any] | None]:
    """The rows of a file; None for one that cannot be read."""
    readers = {
        ".csv": _csv_rows,
        ".jsonl": _json_rows,
        ".ndjson": _json_rows,
        ".parquet": _parquet_rows,
    }
    reader = readers.get(Path(file).suffix.lower())
    if reader is None:
        raise BadInput(f"{file}: predictions are .csv, .jsonl, .ndjson or .parquet: name one")
    with _told(file):
        yield from reader(file)


@contextmanager
def _told(file: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        raise BadInput(f"{file} cannot be read ({why}): name a file of predictions") from None
    # Texts that are no UTF-8, and times that Python has no numbers for.
    except (pa.ArrowException, csv.Error, ValueError, OverflowError) as error:
        raise BadInput(f"{file} is broken: {error}: write it again") from None


def _csv_rows(file: str) -> Iterator[dict[str, Any] | None]:
    with copies.local(file).open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        rows = csv.reader(stream)
        names = [name.strip() for name in next(rows, [])]
        _check(file, names)
        while True:
            try:
                fields = next(rows, None)
            except csv.Error:  # a quote that is never closed, say: the reader goes on behind it
                yield None
                continue
            if fields is None:
                return
            if fields:
                yield dict(zip(names, fields, strict=True)) if len(fields) == len(names) else None


def _json_rows(file: str) -> Iterator[dict[str, Any] | None]:
    decoder = msgspec.json.Decoder(dict[str, Any])
    with copies.local(file).open("rb") as stream:
        while line := stream.readline(_MAX_LINE):
            if not line.strip():
                continue
            try:
                yield decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                yield None


def _parquet_rows(file: str) -> Iterator[dict[str, Any] | None]:
    table = pq.ParquetFile(copies.local(file))
    names = table.schema_arrow.names
    _check(file, names)
    columns = [name for name in _COLUMNS if name in names]
    for batch in table.iter_batches(columns=columns):
        yield from batch.to_pylist()


def _check(file: str, names: list[str]) -> None:
    """Raises BadInput when the columns cannot hold predictions."""
    has_image = any(name in names for name in _NAMES["eval_id"])
    has_answer = "correct" in names or {"prediction", "label"} <= set(names)
    if not has_image or not has_answer:
        raise BadInput(
            f"{file} has the columns {', '.join(names) or 'none'}: predictions need eval_id (or "
            "image) and correct, or prediction and label"
        )
