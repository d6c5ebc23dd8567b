"""Places: where in a shard each sample's image and caption lie, so that any of them is read alone.

A file NAME.places beside NAME.tar, in Arrow's IPC format: columns of schemas.PLACES, mapped into
memory, no larger than a three-hundredth of the images. The writer of a shard knows them for free;
of a shard that somebody else made they are found once, by a walk through its headers.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.schemas import PLACES

Offsets = npt.NDArray[np.int64]
_NOTE = b"places"
_VERSION = 1
_OF_DAMAGE = (
    *(pa.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError),
    *(OverflowError, RecursionError, MemoryError),
)
"""What reading bytes of any kind may raise."""


class Unfit(Exception):
    """The file holds no places, or those of another shard."""


@dataclass(frozen=True)
class Places:
    """The samples of one shard, in its order; arrays of one value for each."""

    keys: pa.StringArray
    image: Offsets
    image_bytes: Offsets
    caption: Offsets
    caption_bytes: Offsets
    in_json: npt.NDArray[np.bool_]
    """Whether the caption's member is JSON that holds it, and not the text itself."""
    tar_bytes: int
    """The length of the tar that this was made from."""
    lost: dict[str, int]
    """Samples of the shard that cannot be learned from and stand in no array, by reason."""

    def __len__(self) -> int:
        return len(self.keys)


def beside(tar: str) -> str:
    """The name of the file with the places of `tar`."""
    return tar.removesuffix(".tar") + ".places"


def write(path: Path, rows: pa.Table, tar_bytes: int, lost: dict[str, int]) -> None:
    """Write `rows`, of schemas.PLACES, staged and moved into place when whole.

    The same rows are the same bytes.
    """
    note = {"version": _VERSION, "tar_bytes": tar_bytes, "lost": dict(sorted(lost.items()))}
    schema = PLACES.with_metadata({_NOTE: json.dumps(note)})
    staged = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        # One batch: the columns of a shard are then one stretch of the file each.
        table = rows.cast(PLACES).combine_chunks().replace_schema_metadata(schema.metadata)
        # Rows that are a part of others would bring along what lies around them.
        table = table.take(np.arange(table.num_rows))
        with pa.OSFile(os.fspath(staged), "wb") as file, pa.ipc.new_file(file, schema) as out:
            out.write_table(table, max_chunksize=max(1, table.num_rows))
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)


def read(path: Path, tar_bytes: int) -> Places:
    """The places of a shard that is `tar_bytes` long, mapped and not read.

    Raises Unfit when the file is damaged, reaches beyond the shard, or is of one of another
    length; FileNotFoundError when there is none.
    """
    try:
        with pa.memory_map(os.fspath(path)) as file:
            table = pa.ipc.open_file(file).read_all()
        # First of all: what follows trusts the lengths that a file tells of itself.
        table.validate(full=True)
        note = json.loads((table.schema.metadata or {})[_NOTE])
        told, version = int(note["tar_bytes"]), int(note["version"])
        lost = {str(reason): int(count) for reason, count in note["lost"].items()}
        table = table.cast(PLACES).combine_chunks()
    except FileNotFoundError:
        raise
    except _OF_DAMAGE as error:
        raise Unfit(f"{path} holds no places: {error}") from None
    if (version, told) != (_VERSION, tar_bytes):
        raise Unfit(f"{path} is of a shard of {told:,} bytes, not {tar_bytes:,}")
    if any(column.null_count for column in table.columns):
        raise Unfit(f"{path} has rows without a place")
    keys = table.column("key")
    arrays: dict[str, Any] = {name: table.column(name).to_numpy() for name in PLACES.names[1:]}
    for kind in ("image", "caption"):
        begin, size = arrays[kind], arrays[f"{kind}_bytes"]
        # Each by itself first: a sum of two that are too large may be small again.
        ends = (begin, size, begin + size)
        if len(begin) and any(end.min() < 0 or end.max() > tar_bytes for end in ends):
            raise Unfit(f"{path} reaches beyond its shard")
    key_array = keys.chunk(0) if keys.num_chunks else pa.array([], pa.string())
    return Places(key_array, **arrays, tar_bytes=tar_bytes, lost=lost)
