"""Rows of pairs, and the raw tars that they lie in, as a download leaves them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline import tars
from pipeline.schemas import SHARDED

Sample = tuple[str, bytes, str]
"""A pair_id, an image and a caption."""


def make(folder: Path, count: int, *, raw_tars: int = 2, image_bytes: int = 3000) -> pa.Table:
    """Write raw tars into `folder`; the rows of one shard of `count` samples."""
    folder.mkdir(parents=True, exist_ok=True)
    each = -(-count // raw_tars)
    samples = [
        (f"{n:032x}", b"\xff\xd8" + bytes([n % 256]) * (image_bytes + n), f"número {n}")
        for n in range(count)
    ]
    tables = [
        raw_tar(folder, number, samples[number * each : (number + 1) * each], number * each)
        for number in range(raw_tars)
    ]
    return pa.concat_tables(tables).combine_chunks()


def raw_tar(folder: Path, number: int, samples: Iterable[Sample], first: int = 0) -> pa.Table:
    """Write raw tar `number`; the rows of its samples, which are from `first` on in their shard."""
    rows: list[dict[str, Any]] = []
    with tars.Writer(folder / f"{number:05d}.tar") as tar:
        for sample, (pair_id, image, caption) in enumerate(samples, first):
            members = [("jpg", image), ("txt", caption.encode()), ("json", b"{}")]
            place = {"raw_shard": number, "offset": tar.add(pair_id, members)[0]}
            told = {"pair_id": pair_id, "caption": caption, "sample": sample, "bytes": len(image)}
            rows.append(told | place)
    fields = [field for field in SHARDED if field.name != "shard"]
    empty = {field.name: _empty(field.type) for field in fields if not field.nullable}
    return pa.Table.from_pylist([empty | row for row in rows], schema=pa.schema(fields))


def _empty(kind: pa.DataType) -> Any:
    if pa.types.is_list(kind):
        return [7]
    return "" if pa.types.is_string(kind) else 0
