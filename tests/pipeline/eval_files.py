"""Evaluation sets in every form that people have them in, of a few made pictures."""

import io
import json
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline.settings import EvalSet

Pixels = npt.NDArray[np.uint8]


def evalset(path: Path, **changes: object) -> EvalSet:
    return EvalSet(**({"name": "things", "path": str(path)} | changes))  # type: ignore[arg-type]


def png(number: int) -> bytes:
    """A small picture that no other number has."""
    out = io.BytesIO()
    Image.new("RGB", (4, 4), (number % 256, number // 256, 7)).save(out, "PNG")
    return out.getvalue()


def tar(path: Path, members: list[tuple[str, bytes]], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as out:  # type: ignore[call-overload]
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))
    return path


def folder(path: Path, members: list[tuple[str, bytes]]) -> Path:
    for name, data in members:
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return path


def hugging_face(path: Path, images: list[tuple[bytes, int]], classes: list[str]) -> Path:
    """A parquet file with the metadata that the package `datasets` writes."""
    label = {"_type": "ClassLabel", "names": classes}
    told = {"info": {"features": {"image": {"_type": "Image"}, "label": label}}}
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", kind), ("label", pa.int64())])
    schema = schema.with_metadata({b"huggingface": json.dumps(told).encode()})
    rows = [{"image": {"bytes": data, "path": "x.png"}, "label": n} for data, n in images]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, row_group_size=3)
    return path


def noise(number: int, *sides: int) -> Pixels:
    return np.random.default_rng(number).integers(0, 256, sides, dtype=np.uint8)


def python2_batch(pixels: Pixels, labels: list[int]) -> bytes:
    """A batch of CIFAR's as Python 2 pickled it: protocol 2, with strings of bytes."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    shape = b"".join(b"M" + struct.pack("<H", side) for side in pixels.shape)
    numpy = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
    )
    dtype = b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R"
    dtype += b"(K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    raw = b"T" + struct.pack("<i", pixels.nbytes) + pixels.tobytes()
    array = numpy + b"(K\x01" + shape + b"\x86" + dtype + b"\x89" + raw + b"tb"
    listed = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}q\x01(" + text(b"data") + array + text(b"labels") + listed + b"u."


def cifar(path: Path, pixels: Pixels, labels: list[int], protocol: int) -> Path:
    """A folder of CIFAR-10's test batch and its classes."""
    rows = pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1)
    batch = python2_batch(rows, labels)
    if protocol != 2:
        batch = pickle.dumps({b"data": rows, b"labels": labels}, protocol)
    names = pickle.dumps({"label_names": ["cat", "dog"]}, protocol)
    return folder(path, [("test_batch", batch), ("batches.meta", names)])


def idx(array: Pixels) -> bytes:
    head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return head + array.tobytes()


def pixels_of(data: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(data)))
