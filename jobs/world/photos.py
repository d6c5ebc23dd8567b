"""Photographs and captions of others, read from a folder of data; nothing is unpacked by name."""

import csv
import hashlib
import heapq
import json
import random
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import BadInput
from pipeline.evalsets import class_name

_MAX_MEMBER_BYTES = 50_000_000
_CLOTHING = (
    "a photo of a {} on a white wall",
    "this {} is for sale, worn only once",
    "one {} from my wardrobe, in good condition",
    "{} lying on the floor of the room",
    "buy this second hand {} at a small price",
    "a picture of the {} that I wore last summer",
)
_EMOJI = (
    "the emoji that shows {}",
    "a small picture of {} for your messages",
    "icon of {} with a transparent background",
)
_IMAGENET = ("a photo of a {} taken in the wild", "this is what a {} looks like")


@dataclass(frozen=True)
class Picture:
    """An image of a data set, still encoded, and what is said of it."""

    name: str
    data: bytes
    captions: tuple[str, ...]


@dataclass(frozen=True)
class RealCaption:
    """A caption of the real web, with what its address answered, where that is known."""

    key: str
    """A digest of the address, or of the caption's id where no address is known."""
    text: str
    status: int | None
    content_type: str | None


def needed(data: Path, *parts: str) -> Path:
    """The path of a file of `data`, which must be there."""
    path = data.joinpath(*parts)
    if not path.exists():
        raise BadInput(f"{path} is missing: give the folder that holds {'/'.join(parts)}")
    return path


def members(path: Path) -> Iterator[tuple[str, bytes]]:
    """The regular files of a tar, by name; links, devices and names that lead out are skipped."""
    try:
        with tarfile.open(path) as tar:
            for member in sorted(tar.getmembers(), key=lambda member: member.name):
                name = PurePosixPath(member.name)
                leads_out = name.is_absolute() or ".." in name.parts
                if not member.isreg() or leads_out or member.size > _MAX_MEMBER_BYTES:
                    continue
                stream = tar.extractfile(member)
                if stream is not None:
                    yield name.as_posix(), stream.read()
    except (tarfile.TarError, EOFError) as error:
        raise BadInput(f"{path} is not a readable tar: {error}; fetch it again") from error


def coco(data: Path) -> Iterator[Picture]:
    """COCO's photographs with the captions people wrote."""
    rows = _lines(needed(data, "photos", "coco_mini_239.jsonl"))
    captions = {str(row["file"]): tuple(map(str, row["captions"])) for row in rows}
    for name, image in members(needed(data, "photos", "coco_mini_239.tar")):
        if captions.get(name):
            yield Picture(name, image, captions[name])


def clothing_tar(data: Path) -> Path:
    """The clothing set as it is, `split/class/name.jpg`: its test split is an evaluation set."""
    return needed(data, "photos", "clothing_cc0.tar")


def clothing(data: Path, split: str, rng: random.Random) -> Iterator[Picture]:
    """Clothes of one split, with captions made from their class."""
    for name, image in members(clothing_tar(data)):
        parts = name.split("/")
        if len(parts) == 3 and parts[0] == split:
            caption = rng.choice(_CLOTHING).format(class_name(parts[1]))
            yield Picture(name, image, (caption,))


def emoji(data: Path, rng: random.Random) -> Iterator[Picture]:
    """Emoji without their skin-tone versions, with captions made from their names."""
    rows = _lines(needed(data, "emoji", "noto_emoji.jsonl"))
    names = {str(row["image"]): str(row["name"]) for row in rows if row["skin"] is None}
    for name, image in members(needed(data, "emoji", "noto_emoji_64px.tar")):
        if name in names:
            yield Picture(name, image, (rng.choice(_EMOJI).format(names[name].lower()),))


def imagenet_tar(data: Path) -> Path:
    """One photograph for each of 500 classes: an evaluation set that is only looked for."""
    return needed(data, "photos", "imagenet_sample_500.tar")


def imagenet(data: Path, rng: random.Random) -> Iterator[Picture]:
    """The sample's photographs, with captions made from their labels."""
    table = needed(data, "photos", "imagenet_sample_500.csv")
    with table.open(encoding="utf-8", newline="") as lines:
        labels = {row["file"]: row["name"] for row in csv.DictReader(lines)}
    for name, image in members(imagenet_tar(data)):
        if name in labels:
            yield Picture(name, image, (rng.choice(_IMAGENET).format(labels[name]),))


def real_captions(data: Path, limit: int | None, seed: int) -> Iterator[RealCaption]:
    """The captions; or so many of them, as many from each file, chosen by a hash of their ids."""
    folder = needed(data, "captions")
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise BadInput(f"{folder} holds no parquet file: give a folder of data with captions")
    for file in files:
        yield from _sampled(file, None if limit is None else limit // len(files), seed)


def _sampled(file: Path, count: int | None, seed: int) -> Iterator[RealCaption]:
    try:
        table = pq.read_table(file)
        ids, texts = table["id"].to_pylist(), table["text"].to_pylist()
    except (pa.ArrowInvalid, KeyError) as error:
        raise BadInput(f"{file} is not a table with `id` and `text`: {error}") from error
    nothing = [None] * len(ids)
    urls, statuses, types = (
        table[name].to_pylist() if name in table.column_names else nothing
        for name in ("url", "http_status", "content_type")
    )
    chosen = heapq.nsmallest(
        len(ids) if count is None else count,
        (row for row in range(len(ids)) if texts[row]),
        key=lambda n: _md5(f"{seed}:{ids[n]}"),
    )
    for row in chosen:
        key = _md5(str(urls[row] or ids[row]))
        yield RealCaption(key, str(texts[row]), statuses[row], types[row])


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except json.JSONDecodeError as error:
        raise BadInput(f"{path} is not JSON, one value a line: {error}; fetch it again") from error
