"""Rows of pairs, and the raw tars that they lie in."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline import tars
from pipeline.schemas import SHARDED


def make(folder: Path, count: int, *, raw_tars: int = 2, image_bytes: int = 3000) -> pa.Table:
    """Write raw tars into `folder`; the rows of one shard of `count` samples."""
    folder.mkdir(parents=True, exist_ok=True)
    each = -(-count // raw_tars)
    rows: list[dict[str, Any]] = []
    for raw_shard in range(raw_tars):
        with tars.Writer(folder / f"{raw_shard:05d}.tar") as tar:
            for number in range(raw_shard * each, min(count, (raw_shard + 1) * each)):
                pair_id, caption = f"{number:032x}", f"número {number}"
                image = b"\xff\xd8" + bytes([number % 256]) * (image_bytes + number)
                members = [("jpg", image), ("txt", caption.encode()), ("json", b"{}")]
                offset = tar.add(pair_id, members)[0]
                place = {"raw_shard": raw_shard, "offset": offset, "bytes": len(image)}
                rows.append({"pair_id": pair_id, "caption": caption, "sample": number, **place})
    fields = [field for field in SHARDED if field.name != "shard"]
    for row in rows:
        for field in fields:
            if not field.nullable:
                row.setdefault(field.name, _empty(field.type))
    return pa.Table.from_pylist(rows, schema=pa.schema(fields))


def _empty(kind: pa.DataType) -> Any:
    if pa.types.is_list(kind):
        return [7]
    return "" if pa.types.is_string(kind) else 0
