"""Keyed: the members of a tar, told apart into samples as the webdataset package tells them.

A sample is what neighbouring members of one key are: `a/0.jpg`, `a/0.txt`.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from pipeline.captions import parted, suffix_of
from pipeline.members import Damage, Member

IMAGES = ("jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm", "avif")
"""Suffixes of members that are images."""
TEXTS = ("txt", "json")
"""Suffixes of members that may hold a caption."""
MAX_TEXT_BYTES = 1 << 20
"""Of a text; longer ones are no captions."""
MAX_MEMBERS = 10_000
"""Of a sample that are held in memory."""


class Part(NamedTuple):
    """A member of a sample."""

    key: str
    extension: str
    """In lower case, from the first dot of the name on."""
    member: Member
    is_first: bool
    """Whether a sample begins with it."""


def keyed(found: Iterable[Member | Damage]) -> Iterator[Part | Member | Damage]:
    """What `members` finds, without folders; what is of no sample comes as it is."""
    key = ""
    for member in found:
        if isinstance(member, Damage):
            yield member
            continue
        if member.refused == "folder":
            continue
        name = None if member.refused else parted(member.name)
        if name is None:
            yield member
            continue
        yield Part(*name, member, is_first=name[0] != key)
        key = name[0]


def chosen(held: Sequence[Part], suffixes: Sequence[str]) -> Part | None:
    """The first part of a sample with one of `suffixes`; `0.jpg` before `0.left.jpg`."""
    fitting = [part for part in held if suffix_of(part.extension) in suffixes]
    return min(fitting, key=lambda part: "." in part.extension, default=None)
