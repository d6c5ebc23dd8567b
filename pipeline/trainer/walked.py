"""Walked: where the samples of one tar lie that somebody else made, and what is wrong with it.

Nothing is unpacked and nothing believed: what cannot be learned from is left out, with a reason
and a count. Only headers are read, and the JSON of samples without a txt.
"""

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.captions import of_sample, suffix_of
from pipeline.errors import BadInput
from pipeline.keyed import IMAGES, MAX_MEMBERS, MAX_TEXT_BYTES, Part, chosen, keyed
from pipeline.members import Damage, members
from pipeline.schemas import PLACES

if TYPE_CHECKING:
    from pipeline.trainer import headers

DAMAGED = "a damaged place in the archive"
_NO_IMAGE = "a sample without an image"
_NO_CAPTION = "a sample without a caption"
_KEY_TWICE = "a key twice"
_MEMBER_TWICE = "a member twice"
_MORE_IMAGES = "an image beside the first of its sample"
_NO_KEY = "a member without a key"
_REFUSED = "a member that cannot be read: "
_TOO_MANY = f"a member behind {MAX_MEMBERS:,} of its sample"
_HARMLESS = (_MORE_IMAGES, _NO_KEY, _REFUSED)
"""Where these are all that is wrong, nothing that should be learned from is missing."""
_MAX_TROUBLES = 100
_MAX_KEY_BYTES = 2**31 - 1
"""Of all keys of a tar that Arrow holds in one column."""
_GZIP = b"\x1f\x8b"


class Trouble(NamedTuple):
    """A place of an archive that costs a sample, or more."""

    at: int
    what: str


class Walked(NamedTuple):
    """What a tar holds."""

    rows: pa.Table
    """Of schemas.PLACES."""
    tar_bytes: int
    lost: dict[str, int]
    """What cannot be learned from, by reason."""
    troubles: list[Trouble]
    """Of what is lost, where; the first ones."""


def is_harmless(reason: str) -> bool:
    """Whether what is lost for `reason` is no sample."""
    return reason.startswith(_HARMLESS)


def walk(path: Path) -> Walked:
    """Find the samples of the tar at `path`, in its order.

    Raises BadInput where it is packed, for then no sample can be read alone; OSError where there
    is no file.
    """
    # It brings a compiler, for which processes that only read samples shall not wait.
    from pipeline.trainer import headers

    with path.open("rb") as file:
        if file.read(2) == _GZIP:
            raise BadInput(
                f"{path} is packed in gzip, in which no sample can be read alone: "
                "unpack the shards with `gunzip`, and name them .tar"
            )
        tar_bytes = os.fstat(file.fileno()).st_size
        plain = headers.samples_of(file.fileno(), tar_bytes)
        walked = None if plain is None else _placed(plain, file.fileno(), tar_bytes)
    return walked or walk_carefully(path)


def walk_carefully(path: Path) -> Walked:
    """The same, member by member, whatever the tar is like."""
    with path.open("rb") as file:
        tar_bytes = os.fstat(file.fileno()).st_size
        gathered = _Gathered(file.fileno())
        for found in keyed(members(path, lambda _: False)):
            if isinstance(found, Damage):
                gathered.lose(DAMAGED, found.at, found.what)
            elif isinstance(found, Part):
                gathered.add(found)
            elif found.refused is not None:
                gathered.lost[_REFUSED + found.refused] += 1
            else:
                gathered.lost[_NO_KEY] += 1
        gathered.end_sample()
    rows = pa.Table.from_pydict(gathered.columns, PLACES)
    return Walked(rows, tar_bytes, dict(gathered.lost), gathered.troubles)


def _placed(plain: "headers.Samples", file: int, tar_bytes: int) -> Walked | None:
    """The samples of a tar without oddities; None where a key comes twice."""
    from pipeline.trainer import headers

    columns = plain.columns
    if len(plain.keys) > _MAX_KEY_BYTES:
        return None
    ends = np.append(columns[:, headers.AT_KEY], len(plain.keys)).astype(np.int32)
    buffers = (pa.py_buffer(ends), pa.py_buffer(plain.keys))
    keys = pa.StringArray.from_buffers(len(columns), *buffers)
    if pc.count_distinct(keys).as_py() != len(keys):
        return None
    image, images = columns[:, headers.IMAGE], columns[:, headers.N_IMAGES]
    text, described = columns[:, headers.TEXT], columns[:, headers.JSON]
    in_json = (image >= 0) & (text < 0) & (described >= 0)
    for sample in np.flatnonzero(in_json):
        begin, size = columns[sample, [headers.JSON, headers.JSON_BYTES]].tolist()
        in_json[sample] = of_sample(None, os.pread(file, size, begin)) is not None
    has_caption = in_json | (columns[:, headers.TEXT_BYTES] * (text >= 0) > 0)
    is_kept = (image >= 0) & has_caption
    made = {
        "image": image,
        "image_bytes": columns[:, headers.IMAGE_BYTES],
        "caption": np.where(in_json, described, text),
        "caption_bytes": np.where(
            in_json, columns[:, headers.JSON_BYTES], columns[:, headers.TEXT_BYTES]
        ),
        "in_json": in_json,
    }
    rows = pa.Table.from_arrays([keys, *made.values()], PLACES.names)
    troubles = []
    for sample in np.flatnonzero(~is_kept)[:_MAX_TROUBLES].tolist():
        what = "image" if image[sample] < 0 else "caption"
        told = f"sample `{keys[sample].as_py()[:99]}` has no {what}"
        troubles.append(Trouble(int(columns[sample, headers.AT]), told))
    lost = {
        _NO_IMAGE: int((image < 0).sum()),
        _NO_CAPTION: int(((image >= 0) & ~has_caption).sum()),
        _MORE_IMAGES: int(np.maximum(images - 1, 0).sum()),
        _NO_KEY: plain.keyless,
    }
    lost = {reason: count for reason, count in lost.items() if count}
    return Walked(rows.filter(pa.array(is_kept)).cast(PLACES), tar_bytes, lost, troubles)


class _Gathered:
    """The samples of a tar so far."""

    def __init__(self, file: int) -> None:
        self.columns: dict[str, list[object]] = {name: [] for name in PLACES.names}
        self.lost: Counter[str] = Counter()
        self.troubles: list[Trouble] = []
        self._file = file
        self._keys: set[str] = set()
        self._held: list[Part] = []
        self._extensions: set[str] = set()

    def lose(self, reason: str, at: int, what: str) -> None:
        self.lost[reason] += 1
        if len(self.troubles) < _MAX_TROUBLES:
            self.troubles.append(Trouble(at, what))

    def add(self, part: Part) -> None:
        if part.is_first:
            self.end_sample()
        if len(self._held) == MAX_MEMBERS:
            self.lose(_TOO_MANY, part.member.offset, f"sample `{part.key[:99]}`: {_TOO_MANY}")
        elif part.extension in self._extensions:
            what = f"sample `{part.key[:99]}` has .{part.extension[:99]} twice"
            self.lose(_MEMBER_TWICE, part.member.offset, what)
        else:
            self._held.append(part)
            self._extensions.add(part.extension)

    def end_sample(self) -> None:
        """Place the sample whose parts are held, or lose it."""
        held, self._held, self._extensions = self._held, [], set()
        if not held:
            return
        key, at = held[0].key, held[0].member.offset
        image, caption = chosen(held, IMAGES), self._caption(held)
        images = sum(suffix_of(part.extension) in IMAGES for part in held)
        if images > 1:
            self.lost[_MORE_IMAGES] += images - 1
        if key in self._keys:
            self.lose(_KEY_TWICE, at, f"sample `{key[:99]}` comes a second time")
        elif image is None:
            self.lose(_NO_IMAGE, at, f"sample `{key[:99]}` has no image")
        elif caption is None:
            self.lose(_NO_CAPTION, at, f"sample `{key[:99]}` has no caption")
        else:
            row = (
                key,
                *image.member[1:3],
                *caption.member[1:3],
                caption.extension.endswith("json"),
            )
            for name, value in zip(PLACES.names, row, strict=True):
                self.columns[name].append(value)
        self._keys.add(key)

    def _caption(self, held: list[Part]) -> Part | None:
        """The txt of a sample, or else its JSON where there is a caption in it.

        That a txt is blank is seen only when it is read.
        """
        short = [part for part in held if part.member.size <= MAX_TEXT_BYTES]
        text = chosen(short, ["txt"])
        if text is not None:
            return text if text.member.size else None
        described = chosen(short, ["json"])
        if described is None:
            return None
        found = os.pread(self._file, described.member.size, described.member.offset)
        return described if of_sample(None, found) else None
