"""Evaluation sets: the images that the corpus must not hold, and that a model is scored on.

A set is read as it is distributed: images in folders or a tar, WebDataset, tables of Hugging Face,
CIFAR's, STL-10's and MNIST's arrays, or the hashes of pictures that one may not hold. `parts` cuts
a set into tasks that are read apart from one another; `images` is all of them, one by one.

An image that has no split belongs to every split; one that has no label can be audited but not
scored. A file that breaks off stops the run: half a set must not be audited in silence. Images that
cannot be decoded are the caller's to count.
"""

from collections.abc import Collection, Iterator

from pipeline import inputs
from pipeline.errors import BadInput
from pipeline.evalsets import cifar, hash_lists, idx, layout, members, stl10, tables
from pipeline.evalsets.own_classes import own_classes
from pipeline.evalsets.part import EvalHash, EvalImage, Part
from pipeline.evalsets.splits import chosen
from pipeline.settings import EvalSet

__all__ = [
    "EvalHash",
    "EvalImage",
    "Part",
    "class_name",
    "count",
    "find",
    "format_of",
    "hashes",
    "images",
    "own_classes",
    "parts",
    "read",
]

_READERS = {
    "folder": members.of_folder,
    "tar": members.of_tars,
    "webdataset": members.of_webdataset,
    "parquet": tables.parts,
    "cifar": cifar.parts,
    "stl10": stl10.parts,
    "idx": idx.parts,
}


def images(evalset: EvalSet, split: str | None = None) -> Iterator[EvalImage]:
    """The images of `evalset`, in an order that depends on its files alone; of one split, if it has
    splits. Where images have names of their own, that is the order of names.

    Raises BadInput when the path is missing, a file breaks off, or no image is found.
    """
    for part in parts(evalset, split):
        yield from read(part)


def parts(evalset: EvalSet, split: str | None = None) -> list[Part]:
    """`evalset` cut into parts that are read apart from one another: one by one they are `images`.

    A part is small, can be pickled, and reads at most some hundred images into memory.
    """
    found = _parts(evalset)
    names = {part.split for part in found}
    wanted = [part for part in found if part.split in chosen(names, split)]
    if not wanted:
        there = ", ".join(sorted(f"`{name}`" for name in names if name is not None))
        told = f"; its splits are {there}" if there else ""
        raise BadInput(
            f"evalsets.{evalset.name}: no image of split `{split}` in {evalset.path}{told}: "
            "correct `path` or `split` in the settings"
        )
    return wanted


def read(part: Part) -> Iterator[EvalImage]:
    """The images of one part, in their order. Raises BadInput where this machine sees none."""
    inputs.expect(part.file)
    yield from part.read()


def find(evalset: EvalSet, names: Collection[str]) -> Iterator[EvalImage]:
    """The images of those names, of every split; the others are not read. A list of hashes has
    none."""
    if format_of(evalset) == "hashes":
        return
    wanted = frozenset(names)
    for part in _parts(evalset):
        if (few := part.only(wanted)) is not None:
            yield from few.read()


def count(found: list[Part]) -> int:
    """How many images the parts have."""
    return sum(len(part) for part in found)


def hashes(evalset: EvalSet) -> Iterator[EvalHash]:
    """The rows of a list of hashes (`format_of` says `hashes`)."""
    return hash_lists.read(evalset, layout.files(evalset))


def format_of(evalset: EvalSet) -> str:
    """How the set lies on disk: as the settings say, or as its files look."""
    return layout.format_of(evalset, layout.files(evalset))


def class_name(label: str) -> str:
    """A folder's name as a prompt's words: `red_circle` is `red circle`."""
    return label.replace("_", " ").replace("-", " ").strip()


def _parts(evalset: EvalSet) -> list[Part]:
    files = layout.files(evalset)
    form = layout.format_of(evalset, files)
    if form == "hashes":
        raise BadInput(
            f"evalsets.{evalset.name}: {evalset.path} is a list of hashes and holds no images: "
            "it can be looked for, but not scored or shown (scored = false)"
        )
    try:
        found = _READERS[form](evalset, files)
    except OSError as error:
        where = error.filename or evalset.path
        raise BadInput(
            f"evalsets.{evalset.name}: {where} cannot be read ({error.strerror or error}): "
            "check its permissions, or fetch it again"
        ) from error
    return [part for part in found if len(part)]
