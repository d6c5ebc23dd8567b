"""Evaluation sets: the images that the corpus must not hold, and that a model is scored on.

A set is a folder or a tar. `split/class/name.jpg` gives an image its split and class; an image
that lies otherwise has neither and can be audited but not scored.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline.errors import BadInput
from pipeline.settings import EvalSet

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}


@dataclass(frozen=True)
class EvalImage:
    """One image of an evaluation set, still encoded."""

    name: str
    data: bytes
    split: str | None
    label: str | None


def images(evalset: EvalSet, split: str | None = None) -> Iterator[EvalImage]:
    """The images of `evalset` in the order of their names; of one split, if it has splits.

    Raises BadInput when the path is missing, or no image is found.
    """
    path = Path(evalset.path)
    if not path.exists():
        raise BadInput(
            f"evalsets.{evalset.name}: {path} does not exist: correct `path` in the settings"
        )
    found = 0
    for name, data in _members(path):
        image = _described(name, data)
        if split is None or image.split in (None, split):
            found += 1
            yield image
    if not found:
        raise BadInput(
            f"evalsets.{evalset.name}: no image of split `{split}` in {path}: "
            "correct `path` or `split` in the settings"
        )


def _described(name: str, data: bytes) -> EvalImage:
    parts = PurePosixPath(name).parts
    is_labelled = len(parts) >= 3
    split, label = (parts[-3], parts[-2]) if is_labelled else (None, None)
    return EvalImage(name=name, data=data, split=split, label=label)


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.suffix.lower() in _SUFFIXES and file.is_file():
                yield file.relative_to(path).as_posix(), file.read_bytes()
        return
    try:
        # Members are read, never unpacked: their names cannot lead anywhere.
        with tarfile.open(path) as tar:
            members = [m for m in tar if m.isfile() and _suffix(m.name) in _SUFFIXES]
            for member in sorted(members, key=lambda m: m.name):
                stream = tar.extractfile(member)
                if stream is not None:
                    yield member.name.removeprefix("./"), stream.read()
    except tarfile.TarError as error:
        raise BadInput(f"{path} is neither a folder nor a readable tar: {error}") from error


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def class_name(label: str) -> str:
    """A folder's name as a prompt's words: `red_circle` is `red circle`."""
    return label.replace("_", " ").replace("-", " ").strip()
