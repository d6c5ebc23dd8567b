"""CIFAR: CIFAR-10 and CIFAR-100 as distributed, in Python's version or the binary one.

reads   a folder of the batches, or the .tar.gz
"""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from pipeline import storage
from pipeline.errors import BadInput
from pipeline.evalsets import archives, arrays, pickles
from pipeline.evalsets.names import Names
from pipeline.evalsets.part import File, Part
from pipeline.settings import EvalSet

_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE
_MAX_BYTES = 2**29
"""Of all files, which are held in memory; CIFAR-100's have 186 MB."""
_MAX_CLASSES = 2**16
_BATCH = re.compile(
    r"(?:(data_batch_\d+|test_batch)|cifar-100-(?:python|binary)/(train|test))(\.bin)?"
)
_ARCHIVE = re.compile(r"cifar-100?-(python|binary)\.(tar\.gz|tgz|tar)")
_NAMES = {
    "batches.meta": "label_names",
    "meta": "fine_label_names",
    "batches.meta.txt": None,
    "fine_label_names.txt": None,
}
"""Files of the classes' names, and the key under which a pickle has them."""


class _Piece(NamedTuple):
    """A file, in a folder or in a tar."""

    name: str
    path: str
    offset: int
    data: bytes


def is_one(name: str) -> bool:
    """Whether a file of this path is one of CIFAR's."""
    steps = name.split("/")
    tail = "/".join(steps[-2:])
    is_batch = any(_BATCH.fullmatch(part) for part in (steps[-1], tail))
    return is_batch or _ARCHIVE.fullmatch(steps[-1]) is not None


def parts(evalset: EvalSet, files: list[File]) -> list[Part]:
    """The images of every batch, in the order of the batches' names."""
    pieces = sorted(_pieces(evalset, files), key=lambda piece: piece.name)
    names = next((names for piece in pieces if (names := _class_names(piece))), [])
    found: list[Part] = []
    prefixes = Names()
    for piece in pieces:
        base = PurePosixPath(piece.name).name
        if _is_batch(base):
            found += _batch(piece, prefixes.own(base), names)
    return found


def _is_batch(base: str) -> bool:
    return re.fullmatch(r"(data_batch_\d+|test_batch|train|test)(\.bin)?", base) is not None


def _pieces(evalset: EvalSet, files: list[File]) -> Iterator[_Piece]:
    """The batches and the names of classes, in the folder or in the tar that it holds."""
    plain = [file for file in files if _is_wanted(file.name)]
    held = 0
    for file in plain:
        held += file.size
        if held > _MAX_BYTES:
            raise BadInput(f"{file.path} and those before are larger than CIFAR: correct `path`")
        yield _Piece(file.name, file.path, 0, storage.read(storage.place(file.path)))
    tars = [] if plain else [file for file in files if archives.is_tar(file.name)]
    if len(tars) > 1:
        raise BadInput(
            f"evalsets.{evalset.name}: {evalset.path} holds {len(tars)} tars: give one as `path`"
        )
    for file in tars:
        with archives.opened(file.path) as stream:
            for member in archives.members(stream):
                if not _is_wanted(member.name) or stream.place != member.offset:
                    continue
                held += member.size
                if held > _MAX_BYTES:
                    raise BadInput(
                        f"{file.path}: {member.name} and those before are larger than CIFAR"
                    )
                yield _Piece(member.name, file.path, member.offset, stream.whole(member.size))


def _is_wanted(name: str) -> bool:
    base = PurePosixPath(name).name
    return base in _NAMES or _is_batch(base)


def _class_names(piece: _Piece) -> list[str]:
    base = PurePosixPath(piece.name).name
    if base not in _NAMES:
        return []
    key = _NAMES[base]
    if key is None:
        return [line.strip() for line in piece.data.decode("utf-8", "replace").split()]
    told = pickles.load(piece.data, f"{piece.path}: {base}" if piece.offset else piece.path)
    listed = told.get(key) if isinstance(told, dict) else None
    return [_shown(name) for name in listed] if isinstance(listed, list) else []


def _shown(name: Any) -> str:
    if isinstance(name, pickles.Raw):
        return name.data.decode("utf-8", "replace")
    return name if isinstance(name, str) else ""


def _batch(piece: _Piece, prefix: str, names: list[str]) -> list[Part]:
    base = PurePosixPath(piece.name).name
    split = "test" if base.startswith("test") else "train"
    if base.endswith(".bin"):
        grid, numbers = _binary(piece)
    else:
        grid, numbers = _pickled(piece)
    labels = [(names[n] if 0 <= n < len(names) else "") or str(n) for n in numbers]
    return arrays.cut(split, piece.path, prefix, grid, list(labels))


def _grid(offset: int, stride: int) -> arrays.Grid:
    return arrays.Grid(offset, stride, (_SIDE, _SIDE), "planes", 3)


def _pickled(piece: _Piece) -> tuple[arrays.Grid, list[int]]:
    told = pickles.load(piece.data, piece.path)
    if not isinstance(told, dict):
        raise BadInput(f"{piece.path}: {piece.name} is no batch of CIFAR's: correct `path`")
    pixels = pickles.finished(told.get("data"))
    numbers = told.get("fine_labels", told.get("labels"))
    if (
        not isinstance(pixels, pickles.Array)
        or not isinstance(numbers, list)
        or pixels.shape != (len(numbers), _PIXELS)
        or not all(isinstance(number, int) and 0 <= number < _MAX_CLASSES for number in numbers)
    ):
        raise BadInput(
            f"{piece.path}: {piece.name} is no batch of CIFAR's, of `data` with {_PIXELS} bytes a "
            "row and a label for each: fetch it again"
        )
    return _grid(piece.offset + pixels.raw.offset, _PIXELS), numbers


def _binary(piece: _Piece) -> tuple[arrays.Grid, list[int]]:
    """Each image behind its label; CIFAR-100's behind the coarse one and the fine one."""
    base = PurePosixPath(piece.name).name
    labels = 2 if base in ("train.bin", "test.bin") else 1
    stride = labels + _PIXELS
    if not piece.data or len(piece.data) % stride:
        raise BadInput(
            f"{piece.path}: {piece.name} has {len(piece.data):,} bytes, which are no images of "
            f"{stride}: fetch it again"
        )
    return _grid(piece.offset + labels, stride), list(piece.data[labels - 1 :: stride])
