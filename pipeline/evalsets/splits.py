"""Splits: which part of a set an image belongs to, from where its file lies."""

import re
from collections.abc import Iterable

from pipeline.settings import EvalSet

_ONE = {"valid": "val", "validation": "val", "dev": "val", "testing": "test", "t10k": "test"}
_ONE |= {"training": "train"}
_WORDS = "train|training|trainval|test|testing|t10k|val|valid|validation|dev|unlabeled"
_SPLIT = re.compile(rf"({_WORDS})(?:[-_]?\d{{2,4}}|[-_]?set)?", re.IGNORECASE)
_HUGGING_FACE = re.compile(r"(.+)-(\d{5})-of-(\d{5})(?:-[0-9a-f]+)?")


def is_split(name: str) -> bool:
    """Whether a folder of this name holds a split: `test`, `val2017`, `train_set`."""
    return _SPLIT.fullmatch(name) is not None


def one_name(split: str) -> str:
    """`split` without its year, its case and its synonyms: `validation` is `val`."""
    found = _SPLIT.fullmatch(split)
    word = found[1].lower() if found else split
    return _ONE.get(word, word)


def chosen(there: Iterable[str | None], asked: str | None) -> set[str | None]:
    """Those of the splits that a question for `asked` means; images without a split belong to each.

    A synonym will do where there is no split of just that name.
    """
    names = set(there)
    if asked is None or asked in names:
        return names if asked is None else {None, asked}
    return {name for name in names if name is None or one_name(name) == one_name(asked)}


def asked_for(evalset: EvalSet) -> set[str]:
    """The splits that the settings name."""
    named = (evalset.split, evalset.train_split, evalset.validation_split)
    return {one_name(split) for split in named if split}


def has_split_folders(paths: Iterable[tuple[str, ...]], asked: set[str]) -> bool:
    """Whether some `split/image` lies in a split that the settings ask for."""
    return any(len(path) == 2 and one_name(path[0]) in asked for path in paths)


def of_path(
    path: tuple[str, ...], asked: set[str], *, has_split_folders: bool
) -> tuple[str | None, str | None]:
    """Split and class of `split/class/image`, `class/image`, `split/image` or `image`.

    `train/image` and `val/image` are of every split where the settings ask for another one: their
    folders then say nothing of how the set is used.
    """
    if len(path) >= 3:
        is_below = one_name(path[-2]) in asked and not is_split(path[-3])
        return (path[-2], None) if is_below else (path[-3], path[-2])
    if len(path) < 2:
        return None, None
    if is_split(path[0]) or one_name(path[0]) in asked:
        return (path[0] if has_split_folders else None), None
    return None, path[0]


def of_file(steps: tuple[str, ...], asked: set[str]) -> str | None:
    """The split of a file that holds many images, by its name or its folder's."""
    stem = steps[-1].split(".")[0]
    folders = steps[-2::-1]
    pieces = _HUGGING_FACE.fullmatch(stem)
    base = pieces[1] if pieces else stem
    # `imagenet1k-validation-00.tar`, `cifar10-test.arrow`, `test.parquet`, `test-00000-of-00001`
    for name in (base, *reversed(re.split(r"[-_.]", base))):
        if is_split(name) or one_name(name) in asked:
            return name
    for folder in folders:
        if is_split(folder) or one_name(folder) in asked:
            return folder
    return base if pieces and base != "data" else None


def pieces(stem: str) -> tuple[str, int, int] | None:
    """`test-00002-of-00005` as `test`, 2 and 5."""
    found = _HUGGING_FACE.fullmatch(stem)
    return (found[1], int(found[2]), int(found[3])) if found else None
