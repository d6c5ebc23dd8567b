"""Blocklists: domains, addresses and phrases whose pairs are left out.

reads   files of one a line, plain or gz; `#` begins a comment

A list is kept as the sorted hashes of its lines, 64 bits each: 8 bytes a line in every worker.
With ten million lines one look-up in 10^12 finds what no line says.
"""

import gzip
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline import copies
from pipeline.errors import BadInput
from pipeline.ingest.urls import clean_host, clean_url, without_tracking
from pipeline.kernels import FNV_BASIS, FNV_PRIME, Bytes, kernel
from pipeline.lexicon import bounded
from pipeline.settings import IngestSettings
from pipeline.text import normalise

REASONS = ("blocked domain", "blocked url", "blocked caption")

_LINES = 1 << 18
"""Lines that are hashed at a time."""
_MAX_LINE = 1 << 16
_MAX_WORDS = 32
"""Of a phrase: for each word of a caption so many are looked at."""

Hashes = npt.NDArray[np.uint64]
Bounds = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Number = Any
"""Of the width that a kernel's arithmetic makes it."""

_NONE: Hashes = np.empty(0, np.uint64)


class Blocklists(NamedTuple):
    """What is blocked; each list sorted."""

    domains: Hashes
    urls: Hashes
    phrases: Hashes

    def blocks_domain(self, urls: pa.StringArray) -> Mask:
        """Whether the host of each clean url is listed, or a domain that it is under."""
        return _masked(_hosts_in, urls, self.domains)

    def blocks_url(self, urls: pa.StringArray) -> Mask:
        """Whether each clean url, without its tracking parameters, is listed."""
        return _masked(_texts_in, urls, self.urls)

    def blocks_caption(self, captions: pa.StringArray) -> Mask:
        """Whether each normalised caption holds a listed phrase, as whole tokens."""
        return _masked(_phrases_in, captions, self.phrases)


def load(settings: IngestSettings) -> Blocklists:
    """The lists that the settings name, read once by each process while the files stay the same.

    Raises BadInput for a file that cannot be read, and for a line that says nothing.
    """
    tracking = tuple(settings.tracking_parameters)
    return Blocklists(
        _list("blocked_domains", settings.blocked_domains, ()),
        _list("blocked_urls", settings.blocked_urls, tracking),
        _list("blocked_captions", settings.blocked_captions, ()),
    )


def _list(setting: str, paths: Sequence[str], tracking: tuple[str, ...]) -> Hashes:
    if not paths:
        return _NONE
    try:
        stats = [copies.local(path).stat() for path in paths]
    except OSError as error:
        raise BadInput(
            f"ingest.{setting}: {error.filename} cannot be read ({error.strerror}): correct the "
            "path"
        ) from None
    stamps = tuple((stat.st_size, stat.st_mtime_ns) for stat in stats)
    return _read(setting, tuple(paths), tracking, stamps)


@lru_cache(maxsize=3)  # one for each setting
def _read(
    setting: str,
    paths: tuple[str, ...],
    tracking: tuple[str, ...],
    stamps: tuple[tuple[int, int], ...],  # noqa: ARG001 - a list that was changed is another
) -> Hashes:
    meanings: dict[str, tuple[Callable[[str], str | None], str]] = {
        "blocked_domains": (_domain, "a domain: write `example.com`, which blocks `www.` too"),
        "blocked_urls": (
            lambda line: _address(line, tracking),
            "an address: write it whole, as `https://example.com/a.jpg`",
        ),
        "blocked_captions": (_phrase, f"a phrase of 1 to {_MAX_WORDS} words"),
    }
    meaning, wanted = meanings[setting]
    found = [_NONE]
    for path in paths:
        lines = _meant(setting, path, meaning, wanted)
        while some := list(islice(lines, _LINES)):
            texts = pa.array(some, pa.string())
            hashes = np.empty(len(texts), np.uint64)
            _hash_all(*bounded(texts), hashes)
            found.append(hashes)
    return np.unique(np.concatenate(found))


def _meant(
    setting: str, path: str, meaning: Callable[[str], str | None], wanted: str
) -> Iterator[str]:
    """What each line of a file means."""
    file = copies.local(path)
    try:
        with gzip.open(file) if path.endswith(".gz") else file.open("rb") as stream:
            number = 0
            while line := stream.readline(_MAX_LINE):
                number += 1
                if len(line) == _MAX_LINE:
                    raise BadInput(f"ingest.{setting}: {path}, line {number} is too long: mend it")
                text = line.decode().removeprefix("\ufeff").strip()
                if not text or text.startswith("#"):
                    continue
                found = meaning(text)
                if found is None:
                    raise BadInput(
                        f"ingest.{setting}: {path}, line {number} ({text[:60]!r}) is not {wanted}"
                    )
                yield found
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise BadInput(
            f"ingest.{setting}: {path} cannot be read ({error}): correct the path, or write the "
            "file again in UTF-8"
        ) from None


def _domain(line: str) -> str | None:
    host = clean_host(line.removeprefix("*.").removeprefix("."))
    return None if host is None else host.removesuffix(".")


def _address(line: str, tracking: tuple[str, ...]) -> str | None:
    url, reason = clean_url(line, _MAX_LINE)
    return without_tracking(url, tracking) if reason is None else None


def _phrase(line: str) -> str | None:
    phrase = normalise(line)
    return phrase if 1 <= len(phrase.split()) <= _MAX_WORDS else None


# -- looking up ----------------------------------------------------------------------------


def _masked(look: Callable[..., None], texts: pa.StringArray, listed: Hashes) -> Mask:
    found = np.zeros(len(texts), np.bool_)
    if len(listed) and len(texts):
        look(*bounded(texts), listed, found)
    return found


@kernel
def _mixed(value: Number) -> Number:
    # FNV's low bits know little of the last bytes.
    return value ^ (value >> np.uint64(32))


@kernel
def _is_in(listed: Hashes, value: Number) -> bool:
    low, high = 0, len(listed)
    while low < high:
        middle = (low + high) // 2
        if listed[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low < len(listed) and bool(listed[low] == value)


# Texts are hashed from their end, so that one walk over a host finds each domain it is under.


@kernel
def _hash_of(letters: Bytes, begin: int, end: int) -> Number:
    value = np.uint64(FNV_BASIS)
    for place in range(end - 1, begin - 1, -1):
        value = (value ^ np.uint64(letters[place])) * np.uint64(FNV_PRIME)
    return _mixed(value)


@kernel
def _hash_all(letters: Bytes, bounds: Bounds, hashes: Hashes) -> None:
    for row in range(len(hashes)):
        hashes[row] = _hash_of(letters, bounds[row], bounds[row + 1])


@kernel
def _texts_in(letters: Bytes, bounds: Bounds, listed: Hashes, found: Mask) -> None:
    for row in range(len(found)):
        found[row] = _is_in(listed, _hash_of(letters, bounds[row], bounds[row + 1]))


@kernel
def _hosts_in(letters: Bytes, bounds: Bounds, listed: Hashes, found: Mask) -> None:
    for row in range(len(found)):
        begin = bounds[row]
        while letters[begin] != 47:  # the slashes of https://
            begin += 1
        begin += 2
        end = begin
        is_bracketed = letters[begin] == 91
        while end < bounds[row + 1] and letters[end] != 47:
            if letters[end] == 58 and not is_bracketed:
                break
            end += 1
        while is_bracketed and letters[end - 1] != 93:
            end -= 1
        if letters[end - 1] == 46:
            end -= 1
        value = np.uint64(FNV_BASIS)
        for place in range(end - 1, begin - 1, -1):
            if letters[place] == 46 and _is_in(listed, _mixed(value)):
                found[row] = True
            value = (value ^ np.uint64(letters[place])) * np.uint64(FNV_PRIME)
        if _is_in(listed, _mixed(value)):
            found[row] = True


@kernel
def _phrases_in(letters: Bytes, bounds: Bounds, listed: Hashes, found: Mask) -> None:
    for row in range(len(found)):
        begin = bounds[row]
        end = bounds[row + 1]
        while end > begin:  # phrases that end before `end`
            value = np.uint64(FNV_BASIS)
            words = 0
            next_end = begin
            place = end - 1
            while place >= begin and words < _MAX_WORDS:
                if letters[place] == 32:
                    if words == 0:
                        next_end = place
                    words += 1
                    if _is_in(listed, _mixed(value)):
                        found[row] = True
                value = (value ^ np.uint64(letters[place])) * np.uint64(FNV_PRIME)
                place -= 1
            if words < _MAX_WORDS and _is_in(listed, _mixed(value)):
                found[row] = True
            end = next_end
