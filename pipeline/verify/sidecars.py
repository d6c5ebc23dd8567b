"""Sidecars: the parquet and the places beside a tar of ours, held against what lies in it."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import places
from pipeline.schemas import SAMPLE_MEMBERS, SHARDED
from pipeline.verify.archive import Sample
from pipeline.verify.findings import Findings

_IMAGE, _CAPTION = SAMPLE_MEMBERS[:2]
_COMPARED = ("shard", "sample", "pair_id", "caption", "offset", "bytes")
_TEXTS = [field.name for field in SHARDED if field.type == pa.string()]
_BATCH = 256
"""Rows: what a dictionary holds once is as many texts when it is read."""
_BROKEN = (OSError, ValueError, KeyError, TypeError, pa.ArrowException)
_NOWHERE = (None, None)


def compare_parquet(tar: Path, samples: Sequence[Sample], found: Findings) -> None:
    """Tell where the rows beside `tar` are not its samples, in its order."""
    path = tar.with_suffix(".parquet")
    if not path.is_file():
        found.add("no sidecar", path.name)
        return
    try:
        with pq.ParquetFile(path, read_dictionary=_TEXTS, page_checksum_verification=True) as file:
            told = file.schema_arrow
            differs = _columns(told)
            if differs:
                found.add("a sidecar with other columns", path.name, detail=differs)
                return
            if file.metadata.num_rows != len(samples):
                rows = f"{file.metadata.num_rows:,} rows of {len(samples):,} samples"
                found.add("a sidecar with other samples", path.name, detail=rows)
            seen = _compare_rows(tar, samples, _rows(file), found)
            promised = min(file.metadata.num_rows, len(samples))
            if seen < promised:
                # Arrow ends at a column without values, and says nothing.
                rows = f"{seen:,} rows of {promised:,}"
                found.add("a sidecar that cannot be read", path.name, detail=rows)
    except _BROKEN as error:
        found.add("a sidecar that cannot be read", path.name, detail=str(error))


def _columns(told: pa.Schema) -> str:
    """What is other than SHARDED; dictionaries are as we asked for them."""
    names = [name for name in SHARDED.names if name not in told.names]
    if names:
        return f"without {', '.join(names)}"
    more = [name for name in told.names if name not in SHARDED.names]
    if more:
        return f"with {', '.join(more)}"
    for field in SHARDED:
        kind = told.field(field.name).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if kind != field.type:
            return f"{field.name} is {kind}, not {field.type}"
    return ""


def _rows(file: pq.ParquetFile) -> Iterator[tuple[Any, ...]]:
    # All columns: a page is compared with its checksum when it is read.
    for batch in file.iter_batches(_BATCH):
        batch.validate(full=True)
        columns = [batch.column(name).to_pylist() for name in _COMPARED]
        yield from zip(*columns, strict=True)


def _compare_rows(
    tar: Path, samples: Sequence[Sample], rows: Iterator[tuple[Any, ...]], found: Findings
) -> int:
    """How many rows there were to compare."""
    seen = 0
    name = tar.with_suffix(".parquet").name
    with tar.open("rb") as file:
        # Rows or samples that are left over were told by their number.
        for n, (sample, row) in enumerate(zip(samples, rows, strict=False)):
            shard, number, key, caption, offset, size = row
            seen += 1
            if key != sample.key:
                found.add(
                    "a sidecar with other samples", name, sample.key, detail=f"row {n}: {key}"
                )
                continue
            if (shard, number) != (tar.name, n):
                told = f"row {n}: {shard}, {number}"
                found.add("a sidecar that numbers otherwise", name, key, detail=told)
            begin, length = sample.parts.get(_CAPTION, (0, 0))
            if os.pread(file.fileno(), length, begin) != caption.encode("utf-8", "replace"):
                found.add("a sidecar with another caption", name, key, detail=f"row {n}")
            if (offset, size) != sample.parts.get(_IMAGE, _NOWHERE):
                told = f"row {n}: byte {offset}, {size} bytes"
                found.add("a sidecar that misplaces the image", name, key, detail=told)
    return seen


def compare_places(tar: Path, samples: Sequence[Sample], found: Findings) -> None:
    """Tell where the places beside `tar` are not those of its samples."""
    path = tar.with_name(places.beside(tar.name))
    if not path.is_file():
        found.add("no places", path.name)
        return
    try:
        told = places.read(path, tar.stat().st_size)
    except places.Unfit as error:
        found.add("places that cannot be read", path.name, detail=_without(error, path))
        return
    if len(told) != len(samples) or told.lost:
        rows = f"{len(told):,} places of {len(samples):,} samples; lost: {told.lost or 'none'}"
        found.add("places of other samples", path.name, detail=rows)
    columns = (told.image, told.image_bytes, told.caption, told.caption_bytes, told.in_json)
    rows_told = zip(told.keys.to_pylist(), *(column.tolist() for column in columns), strict=True)
    for n, (sample, row) in enumerate(zip(samples, rows_told, strict=False)):
        key, *place, in_json = row
        if key != sample.key:
            found.add("places of other samples", path.name, sample.key, detail=f"row {n}: {key}")
            continue
        image = sample.parts.get(_IMAGE, _NOWHERE)
        if tuple(place) != (*image, *sample.parts.get(_CAPTION, _NOWHERE)) or in_json:
            found.add("places that mislead", path.name, key, detail=f"row {n}: {place}")


def _without(error: Exception, path: Path) -> str:
    """What it says, without the folder, which is not the shards' fault."""
    return str(error).replace(str(path), path.name)
