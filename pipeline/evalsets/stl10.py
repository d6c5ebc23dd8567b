"""STL-10: its binary version, as distributed.

reads   a folder of test_X.bin, test_y.bin and their like
"""

import re
from pathlib import PurePosixPath

from pipeline import storage
from pipeline.errors import BadInput
from pipeline.evalsets import arrays
from pipeline.evalsets.names import Names
from pipeline.evalsets.part import File, Part
from pipeline.settings import EvalSet

_SIDE = 96
_PIXELS = 3 * _SIDE * _SIDE
_IMAGES = re.compile(r"(train|test|unlabeled)_X\.bin")


def is_one(name: str) -> bool:
    """Whether a file of this path is one of STL-10's."""
    return _IMAGES.fullmatch(PurePosixPath(name).name) is not None


def parts(evalset: EvalSet, files: list[File]) -> list[Part]:
    """The images of every split, in the order of the files' names."""
    beside = {file.name: file for file in files}
    found: list[Part] = []
    prefixes = Names()
    for file in files:
        base = PurePosixPath(file.name).name
        if not is_one(base):
            continue
        number, rest = divmod(file.size, _PIXELS)
        if rest or not number:
            raise BadInput(
                f"{file.path} has {file.size:,} bytes, which are no images of {_PIXELS}: unpack it "
                "again"
            )
        folder = file.name.removesuffix(base)
        labels: list[str | None] = [None] * number
        names = _lines(beside.get(f"{folder}class_names.txt"))
        if (classes := beside.get(file.name.replace("_X.bin", "_y.bin"))) is not None:
            classed = storage.read(storage.place(classes.path))
            if len(classed) != number:
                raise BadInput(f"{classes.path} has {len(classed):,} labels of {number:,} images")
            # Classes count from 1.
            labels = [names[n - 1] if 0 < n <= len(names) else str(n) for n in classed]
        grid = arrays.Grid(0, _PIXELS, (_SIDE, _SIDE), "turned planes", 3)
        found += arrays.cut(base.split("_")[0], file.path, prefixes.own(base), grid, labels)
    if not found:
        raise BadInput(
            f"evalsets.{evalset.name}: {evalset.path} holds no test_X.bin: unpack "
            "stl10_binary.tar.gz and give its folder"
        )
    return found


def _lines(file: File | None) -> list[str]:
    if file is None:
        return []
    return storage.read(storage.place(file.path)).decode("utf-8", "replace").split()
