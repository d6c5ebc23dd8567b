"""Hash lists: pictures that one may not hold, known by their hashes alone.

reads   text or parquet with columns `phash` (16 hexadecimal digits, imagehash's order), `pdq` (64),
        `sha256` (64, of the file's bytes), `quality` (of PDQ) and `name`, whichever there are;
        or one hash a line
"""

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import copies, storage
from pipeline.errors import BadInput
from pipeline.evalsets.names import Names, steps
from pipeline.evalsets.part import BROKEN_TABLE, EvalHash, File
from pipeline.settings import EvalSet

_DIGITS = {"phash": 16, "pdq": 64, "sha256": 64}
_COLUMNS = {**{name: name for name in _DIGITS}, "quality": "quality", "pdq_quality": "quality"}
_COLUMNS |= {"name": "name", "id": "name", "file": "name", "filename": "name", "hash": "hash"}
_COLUMNS |= {"pdq_hash": "pdq", "sha-256": "sha256", "key": "name", "path": "name"}
_HEX = re.compile(r"[0-9a-fA-F]{16}|[0-9a-fA-F]{64}")
_MAX_LINE = 10_000


def is_text(path: str) -> bool:
    """Whether a file is a text whose beginning holds hashes."""
    if not path.lower().endswith((".csv", ".tsv", ".txt")):
        return False
    head = storage.read_at(storage.place(path), 0, 4096).decode("utf-8", "replace")
    return any(_HEX.fullmatch(cell.strip(' "')) for cell in re.split(r"[,;\t\r\n]", head))


def is_table_of_hashes(path: str) -> bool:
    """Whether a parquet file has columns of hashes, and none that could be an image."""
    if not path.lower().endswith(".parquet"):
        return False
    try:
        schema = pq.read_schema(copies.local(path))
    except BROKEN_TABLE:
        return False  # who reads it says why not
    holds_more = any(pa.types.is_struct(field.type) for field in schema)
    return not holds_more and any(_folded(name) in _DIGITS for name in schema.names)


def read(evalset: EvalSet, files: list[File]) -> Iterator[EvalHash]:
    """Every row, in the order of the files. A row that cannot be read stops the run: a picture must
    not slip through because its hash was mistyped."""
    names = Names()
    found = 0
    for file in files:
        is_table = file.name.lower().endswith(".parquet")
        for where, row in (_table_rows if is_table else _text_rows)(evalset, file.path):
            hashed = _hashed(row, where)
            if hashed is None:
                continue
            found += 1
            told = row.get("name")
            name = "/".join(steps(str(told))) if told is not None else ""
            name = name or hashed["first"]
            yield EvalHash(
                names.own(name),
                hashed["phash"],
                hashed["pdq"],
                hashed["quality"],
                hashed["sha256"],
            )
    if not found:
        raise BadInput(f"evalsets.{evalset.name}: {evalset.path} holds no hashes: correct `path`")


def _hashed(row: dict[str, Any], where: str) -> dict[str, Any] | None:
    """The hashes of a row; None when all are empty."""
    hexes: dict[str, str | None] = {}
    for column, digits in _DIGITS.items():
        value = row.get(column)
        text = value.hex() if isinstance(value, bytes) else str(value if value is not None else "")
        text = text.strip().lower()
        if text and not re.fullmatch(rf"[0-9a-f]{{{digits}}}", text):
            raise BadInput(f"{where}: `{column}` is not {digits} hexadecimal digits: correct it")
        hexes[column] = text or None
    if not any(hexes.values()):
        return None
    phash, pdq = hexes["phash"], hexes["pdq"]
    quality = str(row["quality"]).strip() if row.get("quality") is not None else ""
    if quality and not (quality.isascii() and quality.isdecimal() and int(quality) <= 100):
        raise BadInput(f"{where}: `quality` is not a number from 0 to 100: correct it")
    return {
        "phash": int.from_bytes(bytes.fromhex(phash), "big", signed=True) if phash else None,
        "pdq": bytes.fromhex(pdq) if pdq else None,
        "first": pdq or hexes["sha256"] or phash,
        "quality": int(quality) if quality else None,
        "sha256": hexes["sha256"],
    }


def _folded(name: str) -> str:
    return _COLUMNS.get(name.strip().lower(), "")


def _table_rows(evalset: EvalSet, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    here = copies.local(path)
    try:
        with pq.ParquetFile(here) as file:
            columns = {_folded(name): name for name in file.schema_arrow.names if _folded(name)}
            if not columns.keys() & _DIGITS.keys():
                raise BadInput(
                    f"evalsets.{evalset.name}: {path} has no column `pdq`, `phash` or `sha256`"
                )
            number = 0
            for batch in file.iter_batches(columns=list(columns.values())):
                for row in batch.to_pylist():
                    number += 1
                    told = {name: row[column] for name, column in columns.items()}
                    if isinstance(told.get("phash"), int):
                        told["phash"] = f"{told['phash'] & (2**64 - 1):016x}"
                    yield f"{path}, row {number}", told
    except BROKEN_TABLE as error:
        raise BadInput(f"{path} is not whole ({error}): fetch it again") from error


def _text_rows(evalset: EvalSet, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    with copies.local(path).open(encoding="utf-8-sig", errors="replace", newline="") as lines:
        head = lines.readline(_MAX_LINE)
        separator = next((mark for mark in "\t,;" if mark in head), ",")
        lines.seek(0)
        columns: list[str] | None = None
        number = 0
        try:
            for number, cells in enumerate(csv.reader(_lines(lines), delimiter=separator), 1):
                if columns is None:
                    columns = [_folded(cell) for cell in cells]
                    if {*_DIGITS, "hash"} & set(columns):
                        columns = [_told(evalset, path) if c == "hash" else c for c in columns]
                        continue
                    columns = _guessed(evalset, path, cells)
                if len(cells) > len(columns):
                    raise BadInput(
                        f"{path}, line {number}: {len(cells)} cells where {len(columns)} were due"
                    )
                yield f"{path}, line {number}", dict(zip(columns, cells, strict=False))
        except csv.Error as error:
            raise BadInput(f"{path}, behind line {number}: {error}: correct it") from error


def _lines(file: TextIO) -> Iterator[str]:
    while line := file.readline(_MAX_LINE):
        if len(line) == _MAX_LINE:
            raise csv.Error(f"a line of {_MAX_LINE:,} characters or more")
        yield line


def _guessed(evalset: EvalSet, path: str, cells: list[str]) -> list[str]:
    """The columns of a text without their names, from its first row."""
    found = []
    for cell in cells:
        is_hash = _HEX.fullmatch(cell.strip()) is not None
        name = "name"
        if is_hash:
            name = "phash" if len(cell.strip()) == 16 else _told(evalset, path)
        found.append(name if name not in found else "")
    if not set(found) & _DIGITS.keys():
        raise BadInput(
            f"evalsets.{evalset.name}: {path} does not begin with hashes or the names of their "
            "columns: put `pdq`, `phash` or `sha256` into its first line"
        )
    return found


def _told(evalset: EvalSet, path: str) -> str:
    """What 64 digits are: the file's name says it, or nobody does."""
    base = Path(path).name.lower()
    told = [name for name in _DIGITS if name in base]
    if len(told) != 1:
        raise BadInput(
            f"evalsets.{evalset.name}: the hashes of {path} may be PDQ or SHA-256: put `pdq` or "
            "`sha256` into its first line"
        )
    return told[0]
