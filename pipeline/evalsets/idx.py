"""IDX: MNIST and its kin, plain or gz, images and labels in files of their own.

reads   a folder of `train-images-idx3-ubyte.gz`, `train-labels-idx1-ubyte.gz` and their like
"""

import re
import struct
from pathlib import PurePosixPath

from pipeline.errors import BadInput
from pipeline.evalsets import archives, arrays
from pipeline.evalsets.names import Names, steps
from pipeline.evalsets.part import File, Part
from pipeline.settings import EvalSet

_IMAGES = re.compile(r"(.*?)[-_.]?images[-_.]idx[34][-_.]ubyte(?:\.gz)?", re.IGNORECASE)
_LABELS = re.compile(r"(.*?)[-_.]?labels[-_.]idx[12][-_.](ubyte|int)(?:\.gz)?", re.IGNORECASE)
_ITEMS = {8: 1, 12: 4}
"""Bytes of a number, by the type that a header tells: bytes and big-endian integers."""


def is_one(name: str) -> bool:
    """Whether a file of this path holds images in IDX."""
    return _IMAGES.fullmatch(PurePosixPath(name).name) is not None


def parts(evalset: EvalSet, files: list[File]) -> list[Part]:
    """The images of every file, in the order of their names."""
    labelled = {}
    for file in files:
        folder, base = _split(file.name)
        if match := _LABELS.fullmatch(base):
            labelled[folder, match[1]] = file.path
    found: list[Part] = []
    prefixes = Names()
    for file in files:
        folder, base = _split(file.name)
        if (match := _IMAGES.fullmatch(base)) is None:
            continue
        sides, offset = _header(file.path)
        if len(sides) not in (3, 4) or min(sides) < 1 or (len(sides) == 4 and sides[3] != 3):
            raise BadInput(f"{file.path} holds no grey or RGB images: correct `path`")
        number, rows, columns = sides[:3]
        channels = 3 if len(sides) == 4 else 1
        labels: list[str | None] = [None] * number
        if (path := labelled.get((folder, match[1]))) is not None:
            labels = list(_labels(path, number))
        stride = rows * columns * channels
        grid = arrays.Grid(offset, stride, (rows, columns), "rows", channels)
        split = _split_of(match[1])
        prefix = prefixes.own("/".join(steps(file.name)))
        found += arrays.cut(split, file.path, prefix, grid, labels)
    if not found:
        raise BadInput(
            f"evalsets.{evalset.name}: {evalset.path} holds no `...-images-idx3-ubyte` file: give "
            "the folder of them as `path`"
        )
    return found


def _split(name: str) -> tuple[str, str]:
    folder, _, base = name.rpartition("/")
    return folder, base


def _split_of(prefix: str) -> str | None:
    words = re.split(r"[-_.]", prefix.lower())
    if {"t10k", "test"} & set(words):
        return "test"
    return "train" if "train" in words else None


def _header(path: str) -> tuple[tuple[int, ...], int]:
    """The sides of an array of bytes, and where its bytes begin. The whole file is measured."""
    with archives.opened(path) as stream:
        kind, sides = _sides(stream, path)
        size = _ITEMS.get(kind, 0)
        for side in sides:
            size *= side
        is_too_much = size > arrays.MAX_FILE_BYTES or sides[0] > arrays.MAX_IMAGES
        if kind != 8 or is_too_much:
            raise BadInput(f"{path} holds no images that could be read: fetch it again")
        offset = stream.place
        stream.go(offset + size)
        return sides, offset


def _sides(stream: archives.Stream, path: str) -> tuple[int, tuple[int, ...]]:
    zeros, kind, dimensions = struct.unpack(">HBB", stream.whole(4))
    if zeros or kind not in _ITEMS or not 1 <= dimensions <= 4:
        raise BadInput(f"{path} is no IDX file: fetch it again")
    return kind, struct.unpack(f">{dimensions}I", stream.whole(4 * dimensions))


def _labels(path: str, images: int) -> list[str]:
    with archives.opened(path) as stream:
        kind, sides = _sides(stream, path)
        if sides[0] != images or len(sides) > 2 or (len(sides) == 2 and not 1 <= sides[1] <= 64):
            raise BadInput(
                f"{path} has {sides[0]:,} labels of {images:,} images: fetch both files again"
            )
        # QMNIST tells more of each image, the class first.
        each = _ITEMS[kind] * (sides[1] if len(sides) == 2 else 1)
        data = stream.whole(images * each)
    size = _ITEMS[kind]
    return [str(int.from_bytes(data[at : at + size], "big")) for at in range(0, len(data), each)]
