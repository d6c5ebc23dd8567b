"""Archive: one pass through the tar of a shard, member by member and sample by sample.

Samples are told apart as the webdataset package does: neighbouring members of one key.
"""

import json
import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from pipeline.captions import of_sample, parted, suffix_of
from pipeline.keyed import IMAGES, MAX_TEXT_BYTES, TEXTS, Part, keyed
from pipeline.members import Damage, Member, members
from pipeline.schemas import SAMPLE_MEMBERS
from pipeline.verify import images
from pipeline.verify.findings import Findings

_BLOCK = 512
_NOT_PLAIN = "a header that is not plain ustar"
_GZIP = b"\x1f\x8b"
_MAX_JSON_BYTES = 1 << 26
"""Of ours: a picture may stand on many pages, and its JSON hold the captions of all of them."""
_NO_SAMPLE = re.compile(r"__[^/]*__($|/)")
"""Names that the webdataset package takes for notes."""


@dataclass
class Sample:
    """Where the members of a sample lie: begin and length, by extension."""

    key: str
    at: int
    """The byte at which its first member begins."""
    parts: dict[str, tuple[int, int]] = field(default_factory=dict)
    texts: dict[str, bytes] = field(default_factory=dict)
    """The bytes of its txt and json, until it is checked."""


class Archive:
    """The tar at `path`; `found` is told what is wrong with it.

    Of `ours` everything is asked that `wit shard` promises. Images are only decoded when `deep`.
    """

    def __init__(self, path: Path, found: Findings, *, ours: bool, deep: bool) -> None:
        self.samples: list[Sample] = []
        self.is_plain = True
        """Whether there is nothing but files, one behind the other."""
        self._path, self._found, self._ours, self._deep = path, found, ours, deep
        self._sample: Sample | None = None
        self._seen: dict[str, set[str]] = {}
        """The extensions that each key has had."""

    def read(self) -> None:
        """Walk through it. Raises OSError when it cannot be read."""
        with self._path.open("rb") as file:
            if file.read(2) == _GZIP:
                self.is_plain = False
                self._tell("packed in gzip", detail="no sample can be read alone: gunzip it")
                return
            for part in keyed(self._with_headers(file.fileno())):
                if isinstance(part, Damage):
                    self._tell("a damaged archive", at=part.at, detail=part.what)
                elif isinstance(part, Part) and not _NO_SAMPLE.match(part.member.name):
                    self._take(part)
                else:
                    self._tell_of_no_sample(part.member if isinstance(part, Part) else part)
        self._end_sample()

    def keys_once(self) -> Iterable[str]:
        """Those of the samples, each once."""
        return self._seen

    def _tell(
        self, kind: str, key: str | None = None, at: int | None = None, detail: str = ""
    ) -> None:
        self._found.add(kind, self._path.name, key, at, detail)

    def _is_wanted(self, name: str) -> bool:
        parts = parted(name)
        suffix = "" if parts is None else suffix_of(parts[1])
        return suffix in TEXTS or (self._deep and suffix in IMAGES)

    def _with_headers(self, file: int) -> Iterator[Member | Damage]:
        """All that is in the archive, its headers looked at."""
        end = 0
        for member in members(self._path, self._is_wanted):
            if isinstance(member, Damage):
                self.is_plain = False
            else:
                end = self._check_header(file, member, end)
            yield member

    def _check_header(self, file: int, member: Member, end: int) -> int:
        """Where the member ends, behind the one that ended at `end`."""
        begin, name = member.offset - _BLOCK, member.name
        is_file = member.refused is None
        is_alone = begin == end
        self.is_plain &= is_file and is_alone
        if ".." in PurePosixPath(name).parts or name.startswith("/"):
            self._tell("a name that leads outside", None, begin, name)
        if self._ours and not is_alone:
            self._tell(_NOT_PLAIN, None, end, "more than a block")
        elif self._ours and os.pread(file, _BLOCK, begin) != header(name, member.size):
            self._tell(_NOT_PLAIN, None, begin, name)
        return member.offset + -(-member.size // _BLOCK) * _BLOCK

    def _tell_of_no_sample(self, member: Member) -> None:
        kind = "a member of no sample"
        if member.refused is not None:
            kind = f"a member that is no file: {member.refused}"
        self._tell(kind, None, member.offset, member.name)

    def _take(self, part: Part) -> None:
        key, extension, member, is_first = part
        at = member.offset
        if is_first or self._sample is None:
            self._end_sample()
            self._sample = Sample(key, at)
        sample = self._sample
        if extension in sample.parts:
            self._tell("a member twice", key, at, extension)
            return
        sample.parts[extension] = (at, member.size)
        if self._ours and member.name != f"{key}.{extension}":
            self._tell(_NOT_PLAIN, key, at, f"spelt {member.name}")
        self._check_data(sample, suffix_of(extension), member)

    def _check_data(self, sample: Sample, suffix: str, member: Member) -> None:
        data = member.data
        if data is None:
            return
        if suffix in IMAGES:
            flaw = images.flaw(data)
            # Pictures of the web are often odd, and fine; ours were made by one encoder.
            if flaw is not None and (self._ours or flaw[0] != images.WARNED):
                self._tell(f"an image that is {flaw[0]}", sample.key, member.offset, flaw[1])
        elif len(data) > self._most(suffix):
            self._tell("a text too long to be read", sample.key, member.offset)
        else:
            sample.texts.setdefault(suffix, data)

    def _most(self, suffix: str) -> int:
        return _MAX_JSON_BYTES if self._ours and suffix == "json" else MAX_TEXT_BYTES

    # -- the sample as a whole ---------------------------------------------------------------

    def _end_sample(self) -> None:
        sample, self._sample = self._sample, None
        if sample is None:
            return
        self.samples.append(sample)
        before = self._seen.setdefault(sample.key, set())
        if before:
            is_apart = before.isdisjoint(sample.parts)
            kind = "a sample whose members lie apart" if is_apart else "a key twice in a shard"
            self._tell(kind, sample.key, sample.at)
        before.update(sample.parts)
        names = ", ".join(sample.parts)
        if self._ours and tuple(sample.parts) != SAMPLE_MEMBERS:
            wanted = ", ".join(SAMPLE_MEMBERS)
            self._tell(f"a sample that is not {wanted}", sample.key, sample.at, names)
        has_image = any(suffix_of(extension) in IMAGES for extension in sample.parts)
        if not self._ours and not has_image:
            self._tell("a sample without an image", sample.key, sample.at, names)
        self._check_texts(sample)
        sample.texts = {}

    def _check_texts(self, sample: Sample) -> None:
        key, at = sample.key, sample.at
        text, described = sample.texts.get("txt"), sample.texts.get("json")
        caption = of_sample(text, described)
        if caption is None:
            self._tell("a sample without a caption", key, at)
        spelt = None if text is None else _utf8(text)
        if text is not None and spelt is None:
            self._tell("a caption that is not UTF-8", key, at)
        if described is None:
            return
        told = _parsed(described)
        if told is None:
            self._tell("JSON that cannot be parsed", key, at)
        elif self._ours:
            told = told if isinstance(told, dict) else {}
            if told.get("pair_id") != key:
                self._tell("JSON of another pair", key, at, str(told.get("pair_id")))
            if "caption" in told and spelt is not None and told["caption"] != spelt:
                self._tell("JSON with another caption", key, at)


def header(name: str, size: int) -> bytes | None:
    """The block before a member of ours; None where it cannot be written for such a name."""
    raw = name.encode("ascii", "replace")
    if len(raw) > 100 or raw.decode() != name:
        return None
    block = bytearray(_TEMPLATE)
    block[: len(raw)] = raw
    block[124:136] = b"%011o\0" % size
    # The sum counts its own eight bytes as spaces.
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def _template() -> bytes:
    """A header without name, size and sum: no time, no owner."""
    info = tarfile.TarInfo("")
    info.mode = 0o644
    block = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    block[124:136], block[148:156] = b"\0" * 12, b" " * 8
    return bytes(block)


_TEMPLATE = _template()


def _utf8(text: bytes) -> str | None:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return None


def _parsed(data: bytes) -> Any:
    """None where it is no JSON."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, ValueError):
        pass
    try:  # Python writes NaN, and reads it.
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
