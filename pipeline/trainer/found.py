"""Found: the places of one shard, from the file beside it, from our notes, or by a walk.

reads   NAME.places, or else NAME.tar
writes  NAME.places among the store's notes
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from pipeline import places
from pipeline.errors import BadInput
from pipeline.places import Places, Unfit
from pipeline.trainer.stores import Store, Unavailable
from pipeline.trainer.walked import Walked, is_harmless, walk

_OPENINGS = 16
_LEAST_BYTES = 1024
"""Of a sample: the headers of its image and its caption."""


@dataclass(frozen=True)
class Shard:
    """A tar of a corpus, as its index tells of it."""

    name: str
    samples: int
    """So many numbers it has in the corpus, whatever can be read of it."""
    bytes: int
    sha256: str | None = None


def is_likely(samples: int, tar_bytes: int) -> bool:
    """Whether so many samples fit in a tar of this length."""
    return 0 <= samples * _LEAST_BYTES <= tar_bytes < 1 << 60


def places_of(store: Store, shard: Shard, tell: Callable[[str], None], *, refuse: bool) -> Places:
    """The places of `shard`; they are kept, so that the next one who asks need not look for them.

    Raises Unavailable where the shard cannot be had; where damage is refused, BadInput that names
    its first place.
    """
    note = store.notes / places.beside(shard.name)
    found = _read(note, shard.bytes) or _copied(store, note, shard)
    if found is None:
        walked = _walked(store, shard)
        for trouble in walked.troubles:
            tell(f"{shard.name}, byte {trouble.at:,}: {trouble.what}")
        _keep(note, walked)
        found = places.read(note, shard.bytes)
    if refuse and not all(map(is_harmless, found.lost)):
        raise _refusal(store, shard)
    return found


def _read(path: Path, tar_bytes: int) -> Places | None:
    try:
        found = places.read(path, tar_bytes)
    except (FileNotFoundError, Unfit):
        return None
    return found if is_likely(len(found), tar_bytes) else None


def _copied(store: Store, note: Path, shard: Shard) -> Places | None:
    """The places that lie beside the shard, copied to `note`, if they are fit."""
    try:
        beside = store.small(note.name)
    except Unavailable:
        return None  # the walk needs more than this, and tells why it cannot be had
    if beside is None:
        return None
    staged = note.with_name(f".{note.name}.{uuid4().hex}")
    try:
        staged.write_bytes(beside)
        found = _read(staged, shard.bytes)
        if found is not None:
            staged.replace(note)
    except OSError as error:
        raise unwritten(note.parent, error) from None
    finally:
        staged.unlink(missing_ok=True)
    return found


def _walked(store: Store, shard: Shard) -> Walked:
    for _ in range(_OPENINGS):
        path = store.local(shard.name, shard.bytes, shard.sha256)
        try:
            walked = walk(path)
        except FileNotFoundError:
            continue  # another process put it out of the cache in between
        except OSError as error:
            raise Unavailable(shard.name, "cannot be fetched", str(error)) from None
        if walked.tar_bytes == shard.bytes:
            return walked
        raise Unavailable(shard.name, "other length", f"{walked.tar_bytes:,}, not {shard.bytes:,}")
    raise Unavailable(shard.name, "cannot be fetched", f"evicted {_OPENINGS} times")


def _keep(note: Path, walked: Walked) -> None:
    try:
        places.write(note, walked.rows, walked.tar_bytes, walked.lost)
    except OSError as error:
        raise unwritten(note.parent, error) from None


def _refusal(store: Store, shard: Shard) -> BadInput:
    """The error that names the first trouble of a shard, looked for anew."""
    trouble = next(iter(_walked(store, shard).troubles), None)
    told = "damaged" if trouble is None else f"damaged at byte {trouble.at:,}: {trouble.what}"
    return BadInput(
        f"{store.where}/{shard.name} is {told}. Copy it again, or leave out what is damaged "
        "with loader.damaged = `skip`"
    )


def unwritten(folder: Path, error: OSError) -> BadInput:
    """The error of notes that cannot be written."""
    why = error.strerror or str(error)
    return BadInput(
        f"{folder} cannot keep where samples lie ({why}): make room in it, or write access, or "
        "name another folder with loader.cache"
    )
