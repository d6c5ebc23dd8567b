"""Compaction: one final shard, made of its rows and of the images in raw tars.

reads   rows of balanced, in the order of their samples; raw tars
writes  000000.tar, the columns beside it in 000000.parquet, and 000000.places
"""

import hashlib
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import places, placing, tars
from pipeline.errors import BadInput
from pipeline.placing import Written
from pipeline.raw_shards import raw_tar, read_all
from pipeline.schemas import PLACES, SAMPLE_MEMBERS, SHARDED
from pipeline.storage import Place

_VERSION = 2
"""Of what is made of the same rows."""
IN_JSON = (
    "caption",
    "height",
    "kept_for",
    "language",
    "original_height",
    "original_width",
    "page_url",
    "pair_id",
    "query_ids",
    "sha256",
    "url",
    "width",
)
"""The columns of a sample's JSON, alternatives aside."""
_ALTERNATIVES = "alternatives"

Offsets = npt.NDArray[np.int64]


def compact(rows: pa.Table, number: int, raw_folder: Place, folder: Place) -> Written:
    """Write shard `number`, unless it is there and made of the same rows.

    `rows` have the columns of SHARDED but for `shard`, with the offsets in the raw tars; where
    they have `alternatives`, these go into each sample's JSON. Raises BadInput when a raw tar does
    not hold an image, or the disk is full.
    """
    rows = rows.combine_chunks()
    made_of = _digest(rows)
    done = placing.whole(folder, number, made_of)
    if done is not None:
        return done
    with placing.staging(folder, number) as staged:
        with tars.Writer(staged[".tar"], digest=True) as tar:
            offsets = _write_samples(rows, raw_folder, tar)
        name = f"{placing.stem_of(number)}.tar"
        written = Written(name, rows.num_rows, tar.size, str(tar.sha256))
        _write_sidecar(rows, offsets, written, made_of, staged[".parquet"])
        places.write(staged[".places"], _places(rows, offsets), tar.size, {})
        return placing.place(staged, folder, number, made_of, written)


def _write_samples(rows: pa.Table, raw_folder: Place, tar: tars.Writer) -> Offsets:
    """Write all samples; a row for each, with the offset of each member in the tar."""
    names = sorted({*IN_JSON, _ALTERNATIVES}.intersection(rows.column_names))
    described = zip(*(rows[name].to_pylist() for name in names), strict=True)
    columns = [rows[name].to_pylist() for name in ("pair_id", "caption")]
    encode = msgspec.json.Encoder().encode
    offsets = []
    samples = zip(_images(rows, raw_folder), *columns, described, strict=True)
    for image, pair_id, caption, facts in samples:
        text = encode(dict(zip(names, facts, strict=True)))
        members = tuple(zip(SAMPLE_MEMBERS, (image, caption.encode(), text), strict=True))
        offsets.append(tar.add(pair_id, members))
    return np.array(offsets, np.int64).reshape(-1, len(SAMPLE_MEMBERS))


def _images(rows: pa.Table, raw_folder: Place) -> Iterator[bytes]:
    """The JPEG of each row; a raw tar is opened once, where the rows come in its order."""
    columns = [rows[name].to_pylist() for name in ("raw_shard", "pair_id", "offset", "bytes")]
    for raw_shard, asked in groupby(zip(*columns, strict=True), key=itemgetter(0)):
        path = raw_folder / f"{raw_shard:05d}.tar"
        of_tar = list(asked)
        try:
            tar = raw_tar(raw_folder, raw_shard)
            images = read_all(tar, [(offset, size) for _, _, offset, size in of_tar])
            for image, (_, pair_id, offset, size) in zip(images, of_tar, strict=True):
                if len(image) != size or not image.startswith(b"\xff\xd8"):
                    what = f"holds no JPEG of {size} bytes at {offset} (pair {pair_id})"
                    raise _changed(tar, what)
                yield image
        except FileNotFoundError:
            raise _changed(path, f"is missing (pair {of_tar[0][1]})") from None


def _changed(raw_tar: Place, what: str) -> BadInput:
    return BadInput(f"{raw_tar} {what}: it was changed after the download, run `wit build --again`")


def _digest(rows: pa.Table) -> str:
    """Of all columns. A parquet of the same rows is the same bytes, however the rows came."""
    sink = pa.BufferOutputStream()
    # Spark takes no column of files for one without nulls, and those of a store for what they are.
    fields = [pa.field(name, rows.schema.field(name).type) for name in sorted(rows.column_names)]
    plain = rows.select([field.name for field in fields]).cast(pa.schema(fields))
    pq.write_table(plain, sink, compression="none", use_dictionary=False, store_schema=False)
    return f"{_VERSION}-{hashlib.sha256(sink.getvalue()).hexdigest()}"


def _write_sidecar(
    rows: pa.Table, offsets: Offsets, written: Written, made_of: str, path: Path
) -> None:
    of_image = pa.array(offsets[:, SAMPLE_MEMBERS.index("jpg")])
    table = rows.set_column(rows.column_names.index("offset"), "offset", of_image)
    table = table.append_column("shard", pa.array([written.name] * written.samples, pa.string()))
    table = table.select(SHARDED.names).cast(SHARDED)
    table = table.replace_schema_metadata(placing.note(written, made_of))
    # Through memory: a full disk is then met where its error has a number.
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    path.write_bytes(sink.getvalue())


def _places(rows: pa.Table, offsets: Offsets) -> pa.Table:
    columns: dict[str, Any] = {
        "key": rows["pair_id"].to_pylist(),
        "image": offsets[:, SAMPLE_MEMBERS.index("jpg")],
        "image_bytes": rows["bytes"].to_pylist(),
        "caption": offsets[:, SAMPLE_MEMBERS.index("txt")],
        "caption_bytes": [len(caption.encode()) for caption in rows["caption"].to_pylist()],
        "in_json": [False] * rows.num_rows,
    }
    return pa.table(columns, schema=PLACES)
