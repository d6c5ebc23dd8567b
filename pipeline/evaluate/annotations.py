"""Annotations: the classes and captions of images that stand elsewhere than in folders' names.

reads   tables of image and label, ImageSets/Main of Pascal VOC; captions in tables, in WebDataset
        tars, or in a column beside the images
"""

import csv
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Generic, TypeVar

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import captions, copies, evalsets, inputs, storage
from pipeline.errors import BadInput
from pipeline.evalsets import layout
from pipeline.evalsets.part import BROKEN_TABLE
from pipeline.evalsets.tables import TablePart
from pipeline.settings import EvalSet
from pipeline.storage import Place

_Told = TypeVar("_Told")
Targets = dict[str, int]
"""By class 1, or -1 where it is not asked; the others are not of the image."""

_IMAGE = ("image", "eval_id", "filename", "file_name", "image_id", "image_path")
_LABEL = ("label", "labels", "class", "class_name", "category")
_CAPTIONS = ("caption", "captions", "sentences", "text", "raw")
_DIFFICULT = -1


class ByImage(Generic[_Told]):
    """What is told of images under the names that others give them: the path, the file's name, it
    without its suffix, or the number that it ends in."""

    def __init__(self, evalset: EvalSet, where: str, told: Mapping[str, _Told]) -> None:
        self._name, self._where, self._told = evalset.name, where, told
        self._taken: dict[str, str] = {}

    def of(self, name: str) -> _Told | None:
        """What is told of the image of that name. Raises BadInput where it is of several."""
        path = PurePosixPath(name)
        stem = path.name.partition(".")[0]
        digits = stem[len(stem.rstrip("0123456789")) :].lstrip("0")
        parent = "" if str(path.parent) == "." else f"{path.parent}/"
        for key in (name, parent + stem, path.name, stem, digits):
            if key and key in self._told:
                other = self._taken.setdefault(key, name)
                if other != name:
                    raise BadInput(
                        f"evalsets.{self._name}: `{key}` of {self._where} could be {other} or "
                        f"{name}: write the images' paths there"
                    )
                return self._told[key]
        return None

    @property
    def unused(self) -> int:
        """How many names were never asked for."""
        return len(self._told) - len(self._taken)


def targets(evalset: EvalSet, where: str, split: str) -> ByImage[Targets]:
    """The classes of images from a table or VOC's folder, which is of one split. Raises BadInput
    where there are none."""
    path = storage.place(where)
    try:
        is_voc = inputs.kind(path) == "folder"
        told = _of_voc(path, split) if is_voc else _of_table(evalset, copies.local(where))
    except (*BROKEN_TABLE, csv.Error, msgspec.DecodeError) as error:
        raise BadInput(f"evalsets.{evalset.name}: {path} cannot be read ({error})") from None
    if not told:
        raise BadInput(
            f"evalsets.{evalset.name}: {path} tells the class of no image: correct `labels`"
        )
    return ByImage(evalset, str(path), told)


def _of_voc(folder: Place, split: str) -> dict[str, Targets]:
    """`aeroplane_test.txt`: lines of image and 1, -1, or 0 for one that is difficult."""
    found: dict[str, Targets] = defaultdict(dict)
    files: Iterable[Place] = folder.glob(f"*_{split}.txt")
    if storage.is_remote(folder):
        files = map(storage.place, inputs.fitting(f"{folder}/*_{split}.txt"))
    for file in sorted(files, key=str):
        name = file.stem.removesuffix(f"_{split}")
        for number, line in enumerate(
            storage.read(file).decode("utf-8", "replace").splitlines(), 1
        ):
            words = line.split()
            if not words:
                continue
            if len(words) != 2 or words[1] not in ("1", "-1", "0"):
                raise BadInput(f"{file}, line {number}: not an image and 1, 0 or -1: `{line[:60]}`")
            of_image = found[words[0]]
            if words[1] != "-1":
                of_image[name] = 1 if words[1] == "1" else _DIFFICULT
    return dict(found)


def _of_table(evalset: EvalSet, path: Path) -> dict[str, Targets]:
    found: dict[str, Targets] = defaultdict(dict)
    rows = _rows(path)
    for row in rows:
        image = next((row[name] for name in _IMAGE if row.get(name) is not None), None)
        label = next((row[name] for name in _LABEL if row.get(name) is not None), None)
        if image is None or label is None:
            raise BadInput(
                f"evalsets.{evalset.name}: {path} has the columns {', '.join(map(str, row))}: "
                "labels need image and label"
            )
        for one in label if isinstance(label, list) else [label]:
            found[str(image)][str(one)] = 1
    return dict(found)


def _rows(path: Path) -> Iterable[dict[str, Any]]:
    suffix = path.suffix.lower()
    if suffix in (".parquet", ".pq"):
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return rows
    if suffix in (".csv", ".tsv"):
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
            return list(csv.DictReader(stream, delimiter="\t" if suffix == ".tsv" else ","))
    if suffix in (".jsonl", ".ndjson"):
        lines = path.read_bytes().splitlines()
        return [msgspec.json.decode(line, type=dict[str, Any]) for line in lines if line.strip()]
    raise BadInput(f"{path}: labels are .parquet, .csv, .tsv or .jsonl: name one")


# -- captions ------------------------------------------------------------------------------


def captions_of(evalset: EvalSet, unread: Counter[str]) -> ByImage[list[str]]:
    """The captions of every image, in their order. Raises BadInput where there are none."""
    found: dict[str, list[str]] = defaultdict(list)
    if evalset.captions is not None:
        where = evalset.captions
        for caption in captions.read(copies.local(where), unread):
            if caption.image is None:
                unread["a caption of no image"] += 1
            else:
                found[caption.image].append(caption.text)
    else:
        where = evalset.path
        files = layout.files(evalset)
        form = layout.format_of(evalset, files)
        if form == "parquet":
            _in_tables(evalset, found)
        else:
            tars = [file for file in files if captions.is_tar(Path(file.path))]
            for file in tars:
                prefix = "" if len(files) == 1 else f"{file.name}/"
                for caption in captions.read(copies.local(file.path), unread):
                    key = (caption.image or "").removeprefix(f"{Path(file.path).name}/")
                    found[prefix + key].append(caption.text)
    kept = {name: [text for text in texts if text.strip()] for name, texts in found.items()}
    kept = {name: texts for name, texts in kept.items() if texts}
    if not kept:
        raise BadInput(
            f"evalsets.{evalset.name}: {where} holds no caption that tells its image: name a "
            "table with the columns image and caption as `captions`, or set scored = false"
        )
    return ByImage(evalset, where, kept)


def _in_tables(evalset: EvalSet, found: dict[str, list[str]]) -> None:
    tables = [p for p in evalsets.parts(evalset, evalset.split) if isinstance(p, TablePart)]
    for path, prefix in dict.fromkeys((part.path, part.prefix) for part in tables):
        try:
            schema = pq.read_schema(copies.local(path))
            column = next((name for name in _CAPTIONS if name in schema.names), None)
            if column is None:
                raise BadInput(
                    f"evalsets.{evalset.name}: {path} has no column of captions "
                    f"({', '.join(_CAPTIONS)}): name a table of them as `captions`"
                )
            values = pq.read_table(copies.local(path), columns=[column]).column(column).to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise BadInput(f"{path} cannot be read ({error}): fetch it again") from None
        for row, told in enumerate(values):
            texts = told if isinstance(told, list) else [told]
            found[f"{prefix}#{row}"] = [text for text in texts if isinstance(text, str)]
