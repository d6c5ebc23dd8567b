"""Reading: one sample of a corpus, by its number, from wherever it lies.

A sample is read with one call for its header, image and caption. Shards are read and not mapped:
one that shrinks meanwhile would end a process that has mapped it, and what is mapped of a corpus
larger than memory pushes out what others need.
"""

import contextlib
import os
from collections import OrderedDict
from dataclasses import dataclass

from pipeline import captions
from pipeline.errors import BadInput
from pipeline.places import Places
from pipeline.trainer.index import Index
from pipeline.trainer.order import Indices
from pipeline.trainer.stores import Store, Unavailable, opened

_BLOCK = 512
_MAX_OPEN = 256
"""Shards that a process holds open."""
_MAX_GAP = 1 << 16
"""Bytes between an image and its caption that are read along with them."""
_MAX_IMAGE_BYTES = 1 << 28
_MAX_CAPTION_BYTES = 1 << 20


class Unreadable(Exception):
    """A sample cannot be read, for a `reason`."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


@dataclass(frozen=True)
class Sample:
    """A pair with its image, still encoded."""

    pair_id: str
    image: bytes
    caption: str


class Reader:
    """The samples of a corpus, by number. Not for several threads at once."""

    def __init__(self, store: Store, index: Index) -> None:
        self._store, self._index = store, index
        self._open: OrderedDict[int, int] = OrderedDict()
        self._lost: dict[int, Unreadable] = {}

    def read(self, number: int) -> Sample:
        """Raises Unreadable."""
        shard, place = self._index.find(number)
        places, file = self._places(shard), self._file(shard)
        if place >= len(places):
            raise Unreadable("damaged shard", self._index.shards[shard].name)
        key = places.keys[place].as_py()
        image, image_bytes = int(places.image[place]), int(places.image_bytes[place])
        caption, caption_bytes = int(places.caption[place]), int(places.caption_bytes[place])
        if image_bytes > _MAX_IMAGE_BYTES or caption_bytes > _MAX_CAPTION_BYTES:
            raise Unreadable("too large")
        # The member's header lies before its bytes.
        begin, end = image - _BLOCK, caption + caption_bytes
        if 0 <= caption - (image + image_bytes) <= _MAX_GAP:
            raw = self._bytes(file, begin, end - begin)
            text = raw[caption - begin : end - begin]
        else:
            raw = self._bytes(file, begin, _BLOCK + image_bytes)
            text = self._bytes(file, caption, caption_bytes)
        if not _is_header_of(raw[:_BLOCK], key, image_bytes):
            raise Unreadable("changed shard", f"{self._index.shards[shard].name} at {begin:,}")
        return Sample(key, raw[_BLOCK : _BLOCK + image_bytes], _decoded(text, places, place))

    def key(self, number: int) -> str:
        """The pair_id of a sample; its number, where its shard cannot be had."""
        shard, place = self._index.find(number)
        with contextlib.suppress(Unreadable, IndexError):
            key: str = self._places(shard).keys[place].as_py()
            return key
        return f"{self._index.shards[shard].name}/{place}"

    def expect(self, numbers: Indices) -> None:
        """Have the disk fetch samples that will be read soon, all at once."""
        for number in numbers.tolist():
            shard, place = self._index.find(number)
            with contextlib.suppress(Unreadable, IndexError):
                places, file = self._places(shard), self._file(shard)
                begin = int(places.image[place]) - _BLOCK
                size = int(places.caption[place]) + int(places.caption_bytes[place]) - begin
                _advise(file, begin, max(_BLOCK, size))

    def close(self) -> None:
        for file in self._open.values():
            os.close(file)
        self._open.clear()

    def _places(self, shard: int) -> Places:
        self._refuse_lost(shard)
        try:
            return self._index.places(shard)
        except Unavailable as error:
            raise self._lose(shard, error) from None

    def _file(self, shard: int) -> int:
        found = self._open.get(shard)
        if found is not None:
            self._open.move_to_end(shard)
            return found
        self._refuse_lost(shard)
        told = self._index.shards[shard]
        try:
            file = opened(self._store, (told.name, told.bytes, told.sha256))
        except Unavailable as error:
            raise self._lose(shard, error) from None
        self._open[shard] = file
        if len(self._open) > _MAX_OPEN:
            os.close(self._open.popitem(last=False)[1])
        return file

    def _refuse_lost(self, shard: int) -> None:
        if shard in self._lost:
            raise self._lost[shard]

    def _lose(self, shard: int, error: Unavailable) -> Unreadable:
        """What cannot be had now stays out, so that later batches agree with earlier ones."""
        if error.reason == "cannot be fetched":
            raise BadInput(
                f"{error}: see that the store can be reached, and run the same command again; it "
                "goes on from the last checkpoint"
            )
        lost = Unreadable(f"shard {error.reason}", error.name)
        self._lost[shard] = lost
        return lost

    @staticmethod
    def _bytes(file: int, begin: int, size: int) -> bytes:
        try:
            found = os.pread(file, size, begin)
        except OSError as error:
            raise Unreadable("unreadable bytes", str(error.strerror)) from None
        if len(found) < size:
            raise Unreadable("changed shard", "it is shorter than it was")
        return found


def _advise(file: int, begin: int, size: int) -> None:
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file, begin, size, os.POSIX_FADV_WILLNEED)


def _is_header_of(header: bytes, key: str, size: int) -> bool:
    """Whether a member of that size begins there, under that name where it can stand there."""
    told = header[124:136].strip(b"\0 ")
    # As digits: what stands there now need not be octal.
    is_other = told.lstrip(b"0") != (b"%o" % size).lstrip(b"0")
    if header[257:262] == b"ustar" and told.isdigit() and is_other:
        return False
    name = key.encode("utf-8", "replace")
    is_plain = len(name) <= 90 and b"/" not in name and b"\\" not in name
    return not is_plain or name + b"." in header[:100]


def _decoded(text: bytes, places: Places, place: int) -> str:
    if places.in_json[place]:
        found = captions.of_sample(None, text)
        if found is None:
            raise Unreadable("no caption")
        return found
    try:
        told = text.decode("utf-8")
    except UnicodeDecodeError:
        raise Unreadable("caption is no UTF-8") from None
    if not told or told.isspace():
        raise Unreadable("no caption")
    return told
