"""Tars: a raw shard's tar and parquet, the same bytes in whatever order its images arrive."""

import json
import os
import tempfile
from pathlib import Path
from typing import IO, Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import tars
from pipeline.download.pixels import Picture
from pipeline.download.reasons import reason_of
from pipeline.schemas import IMAGES, SAMPLE_MEMBERS
from pipeline.staged import GO_ON, room_in, scratch, scratch_folder

_BUFFER_BYTES = 1 << 20

# Where a sample lay says nothing about it, and changes with the size of the shards.
_NOT_IN_JSON = {
    "round",
    "raw_shard",
    "position",
    "status",
    "reason",
    "error_message",
    "offset",
    "bytes",
    "phash",
    "pdq",
    "quality",
    "pixels_sha256",
}
_IN_JSON = [name for name in IMAGES.names if name not in _NOT_IN_JSON]


class OrderedSampleWriter:
    """Stands in for img2dataset's WebDatasetSampleWriter; the arguments are img2dataset's.

    Images wait in an unnamed file until all have come, then are written in order of position.
    """

    def __init__(
        self,
        shard_id: int,
        output_folder: str,
        save_caption: bool,  # noqa: ARG002
        oom_shard_count: int,
        schema: pa.Schema,  # noqa: ARG002
        encode_format: str,  # noqa: ARG002
    ) -> None:
        self._stem = Path(output_folder) / f"{shard_id:0{oom_shard_count}d}"
        # Open for as long as the writer is: `close` ends both.
        self._spool: IO[bytes] = tempfile.TemporaryFile(dir=scratch_folder())  # noqa: SIM115
        self._spooled_bytes = 0
        self._rows: list[tuple[dict[str, Any], int]] = []
        self._failure: Exception | None = None

    def write(
        self,
        img_str: bytes | None,
        key: str,  # noqa: ARG002
        caption: str | None,  # noqa: ARG002
        meta: dict[str, Any],
    ) -> None:
        """Take one row; `key` is img2dataset's own and depends on the layout of the shards."""
        row: dict[str, Any] = {name: meta.get(name) for name in IMAGES.names}
        if img_str is None:
            row["reason"] = reason_of(row["error_message"])
        else:
            row["bytes"] = len(img_str)
        if isinstance(img_str, Picture) and img_str.fingerprint is not None:
            row |= img_str.fingerprint._asdict()
        try:
            self._rows.append((row, self._spooled_bytes))
            self._spooled_bytes += self._spool.write(img_str or b"")
        except OSError as error:  # img2dataset prints it and goes on without the row
            self._failure = error
            raise

    def close(self) -> None:
        """Write the tar and the parquet."""
        with self._spool as spool:
            if self._failure is not None:
                with room_in(scratch(), GO_ON):
                    raise self._failure
            spool.flush()
            self._rows.sort(key=lambda taken: (taken[0]["position"], taken[0]["pair_id"]))
            with self._stem.with_suffix(".tar").open("wb", buffering=_BUFFER_BYTES) as file:
                for row, at in self._rows:
                    if row["bytes"] is not None:
                        image = os.pread(spool.fileno(), row["bytes"], at)
                        row["offset"] = _write_sample(file, row, image)
                tars.close(file)
        table = pa.Table.from_pylist([row for row, _ in self._rows], schema=IMAGES)
        pq.write_table(table, self._stem.with_suffix(".parquet"), compression="zstd")


def _write_sample(tar: BinaryIO, row: dict[str, Any], image: bytes) -> int:
    """Write a sample's members; the offset of the image."""
    facts = {name: row[name] for name in _IN_JSON}
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    payloads = {"jpg": image, "txt": row["caption"].encode(), "json": text.encode()}
    offsets = [
        tars.append(tar, f"{row['pair_id']}.{name}", payloads[name]) for name in SAMPLE_MEMBERS
    ]
    return offsets[SAMPLE_MEMBERS.index("jpg")]
