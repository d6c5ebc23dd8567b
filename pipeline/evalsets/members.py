"""Members: images that are files, in a folder or in tars.

reads   files of images; tars of them; WebDataset tars, with their classes beside them
"""

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

from pipeline import copies, storage
from pipeline.errors import BadInput
from pipeline.evalsets import archives, splits
from pipeline.evalsets.names import Names, is_picture, steps
from pipeline.evalsets.part import MAX_IMAGE_BYTES, PART_BYTES, PART_IMAGES, EvalImage, File, Part
from pipeline.settings import EvalSet

_MAX_LABEL_BYTES = 2**20
_AT_ONCE = 16
"""Images that are asked for at once; a part has some 64 MiB."""
_LABELS = ("label", "class", "cls", "class_name", "classname", "target")


class _Image(NamedTuple):
    """Where one image lies."""

    name: str
    split: str | None
    label: str | None
    path: str
    offset: int
    size: int


class _Lying(NamedTuple):
    """An image before it has its name."""

    steps: tuple[str, ...]
    path: str
    offset: int
    size: int


@dataclass(frozen=True)
class MemberPart(Part):
    """Images that lie in files, or in one packed tar."""

    images: tuple[_Image, ...]
    is_packed: bool = False

    def __len__(self) -> int:
        return len(self.images)

    def only(self, names: frozenset[str]) -> Self | None:
        """The images of those names; None when there are none."""
        few = tuple(image for image in self.images if image.name in names)
        return replace(self, images=few) if few else None

    @property
    def file(self) -> str:
        """Where the first of them lies."""
        return self.images[0].path

    def read(self) -> Iterator[EvalImage]:
        """The images, in their order."""
        if storage.is_address(self.file) and not self.images[0].offset:  # they are in no tar
            yield from _asked_for(self.images)
            return
        place = 0
        while place < len(self.images):
            path = self.images[place].path
            stop = place
            while stop < len(self.images) and self.images[stop].path == path:
                stop += 1
            yield from _read(path, self.images[place:stop], is_packed=self.is_packed)
            place = stop


def _read(path: str, images: Iterable[_Image], *, is_packed: bool) -> Iterator[EvalImage]:
    try:
        if is_packed:
            with archives.opened(path) as stream:
                held = -1, b""
                for image in images:
                    if image.offset != held[0]:  # a hard link has the bytes of the one before
                        stream.go(image.offset)
                        held = image.offset, _bounded(image, stream.whole)
                    yield EvalImage(image.name, held[1], image.split, image.label)
            return
        with copies.local(path).open("rb") as file:
            for image in images:
                file.seek(image.offset)
                data = _bounded(image, file.read)
                if len(data) < min(image.size, MAX_IMAGE_BYTES) and data:
                    raise BadInput(f"{path} became shorter while it was read: begin again")
                yield EvalImage(image.name, data, image.split, image.label)
    except OSError as error:
        raise BadInput(
            f"{path} cannot be read ({error.strerror or error}): check its permissions, or fetch "
            "it again"
        ) from error


def _asked_for(images: tuple[_Image, ...]) -> Iterator[EvalImage]:
    """Images of a store: each is an answer of its own, and many are waited for at once."""

    def ask(image: _Image) -> bytes:
        where = storage.place(image.path)
        data = _bounded(image, lambda size: storage.read_at(where, image.offset, size))
        if len(data) < image.size <= MAX_IMAGE_BYTES:
            raise BadInput(f"{image.path} became shorter while it was read: begin again")
        return data

    try:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for image, data in zip(images, pool.map(ask, images), strict=True):
                yield EvalImage(image.name, data, image.split, image.label)
    except FileNotFoundError as error:
        raise BadInput(f"{error} is gone: fetch the set again") from error


def _bounded(image: _Image, read: Callable[[int], bytes]) -> bytes:
    return read(image.size) if image.size <= MAX_IMAGE_BYTES else b""


def of_folder(evalset: EvalSet, files: list[File]) -> list[Part]:
    """The images of a folder, by name."""
    lying = [_Lying(steps(f.name), f.path, 0, f.size) for f in files if is_picture(f.name)]
    return _cut(sorted(_placed(evalset, lying)))


def of_tars(evalset: EvalSet, files: list[File]) -> list[Part]:
    """The images of a tar, or of a folder of tars, by name; of a packed tar in its order."""
    lying: list[_Lying] = []
    packed = set()
    for file, prefix in _tars(files):
        with archives.opened(file.path) as stream:
            for member in archives.members(stream):
                if is_picture(member.name):
                    path = (*prefix, *steps(member.name))
                    lying.append(_Lying(path, file.path, member.offset, member.size))
            if stream.is_packed:
                packed.add(file.path)
    images = _placed(evalset, lying)
    found = _cut(sorted(image for image in images if image.path not in packed))
    for tar in sorted(packed):
        found += _cut([image for image in images if image.path == tar], is_packed=True)
    return found


def _placed(evalset: EvalSet, lying: list[_Lying]) -> list[_Image]:
    """Each image with a name of its own, and its split and class."""
    names, asked = Names(), splits.asked_for(evalset)
    has_folders = splits.has_split_folders((one.steps for one in lying), asked)
    images = []
    for one in lying:
        split, label = splits.of_path(one.steps, asked, has_split_folders=has_folders)
        name = names.own("/".join(one.steps))
        images.append(_Image(name, split, label, one.path, one.offset, one.size))
    return images


def of_webdataset(evalset: EvalSet, files: list[File]) -> list[Part]:
    """The images of WebDataset tars, each with the class that lies beside it."""
    names, asked, called = Names(), splits.asked_for(evalset), classes(files)
    _check_shards(evalset, files)
    found: list[Part] = []
    for file, prefix in _tars(files):
        where = prefix or steps(file.name)
        split = splits.of_file(where, asked)
        images = []
        with archives.opened(file.path) as stream:
            for sample in _samples(stream):
                label = None if sample.label is None else called.get(sample.label, sample.label)
                for member in sample.images:
                    name = names.own("/".join((*prefix, *steps(member.name))))
                    size = member.size
                    images.append(_Image(name, split, label, file.path, member.offset, size))
            is_packed = stream.is_packed
        found += _cut(images, is_packed=is_packed)
    return found


def _cut(images: list[_Image], *, is_packed: bool = False) -> list[Part]:
    """Parts of a bounded size. A packed tar cannot be read from its middle and is one part of each
    split."""
    if is_packed:
        there = dict.fromkeys(image.split for image in images)
        one = sorted(images, key=lambda image: image.offset)
        return [
            MemberPart(split, tuple(i for i in one if i.split == split), is_packed=True)
            for split in there
        ]
    found: list[Part] = []
    begin = held = 0
    for place, image in enumerate(images):
        is_full = place - begin >= PART_IMAGES or held >= PART_BYTES
        if place > begin and (is_full or image.split != images[begin].split):
            found.append(MemberPart(images[begin].split, tuple(images[begin:place])))
            begin, held = place, 0
        held += image.size
    if images:
        found.append(MemberPart(images[begin].split, tuple(images[begin:])))
    return found


def _tars(files: list[File]) -> Iterator[tuple[File, tuple[str, ...]]]:
    """Each tar, and what its images' names begin with: nothing when it is the set."""
    packed = [file for file in files if archives.is_tar(file.name)]
    if len(files) == 1 and not packed:
        packed = files  # the settings say that it is one
    for file in packed:
        yield file, () if len(files) == 1 else steps(file.name)


class _Sample(NamedTuple):
    images: list[archives.Member]
    label: str | None


def _samples(stream: archives.Stream) -> Iterator[_Sample]:
    """Neighbours of one key: the name up to the first dot of its last step."""
    key: str | None = None
    sample = _Sample([], None)
    for member in archives.members(stream):
        folder, slash, base = member.name.rpartition("/")
        stem, _, suffix = base.partition(".")
        if folder + slash + stem != key:
            yield sample
            key, sample = folder + slash + stem, _Sample([], None)
        if is_picture(member.name):
            sample.images.append(member)
        elif suffix in ("cls", "json") and member.size <= _MAX_LABEL_BYTES:
            if not stream.is_packed:
                stream.go(member.offset)
            elif stream.place != member.offset:
                continue  # a hard link to what lies behind
            label = _label(suffix, stream.whole(member.size))
            # What .cls says comes first, on whichever side of the .json it stands.
            if label is not None and (suffix == "cls" or sample.label is None):
                sample = sample._replace(label=label)
    yield sample


def _label(suffix: str, data: bytes) -> str | None:
    text = data.decode("utf-8", "replace").strip()
    if suffix == "cls":
        return _plain(text)
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(told, int | str) and not isinstance(told, bool):
        return _plain(str(told))
    if not isinstance(told, dict):
        return None
    label = next((told[key] for key in _LABELS if told.get(key) is not None), None)
    is_label = isinstance(label, int | str) and not isinstance(label, bool)
    return _plain(str(label)) if is_label else None


def _plain(text: str) -> str | None:
    return "/".join(steps(text)) or None


def classes(files: list[File]) -> dict[str, str]:
    """clip_benchmark's classnames.txt: the name of class 0, 1, ...; none where two share one."""
    for file in files:
        if file.name.rpartition("/")[2] == "classnames.txt":
            names_at = storage.place(file.path)
            text = storage.read_at(names_at, 0, 16 * _MAX_LABEL_BYTES).decode("utf-8", "replace")
            names = [line.strip() for line in text.rstrip("\n").split("\n")]
            if len(set(names)) < len(names):  # then only the numbers tell classes apart
                return {}
            return {str(number): name or str(number) for number, name in enumerate(names)}
    return {}


def _check_shards(evalset: EvalSet, files: list[File]) -> None:
    """Against clip_benchmark's nshards.txt: nobody else would miss a shard."""
    for file in files:
        folder, slash, base = file.name.rpartition("/")
        if base != "nshards.txt":
            continue
        told = storage.read(storage.place(file.path))[:20].strip()
        inside = [f for f in files if f.name.startswith(folder + slash) and f.name.endswith(".tar")]
        there = sum("/" not in f.name[len(folder + slash) :] for f in inside)
        if told.isdigit() and there < int(told):
            raise BadInput(
                f"evalsets.{evalset.name}: {file.path} tells of {int(told)} shards, and {there} "
                "are there: fetch the others"
            )
