"""Listed: which shards a store holds, and how many samples are in each.

reads   index.json; or where there is none _index.json, and the tars that are not in it
writes  _index.json and NAME.places among the store's notes
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import msgspec

from pipeline.errors import BadInput
from pipeline.settings import LoaderSettings
from pipeline.trainer.found import Shard, is_likely, places_of, unwritten
from pipeline.trainer.stores import Store, Unavailable, is_plain
from pipeline.trainer.walked import is_harmless

INDEX, _SUMMARY = "index.json", "_index.json"
_VERSION = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_THREADS = 16
_EMPTY = "a shard without samples"


class _Promise(msgspec.Struct):
    name: str
    samples: int
    bytes: int
    sha256: str | None = None


class _Index(msgspec.Struct):
    shards: list[_Promise] | None = None


class _Walked(msgspec.Struct):
    name: str
    bytes: int
    samples: int
    lost: dict[str, int]


class _Summary(msgspec.Struct):
    version: int
    shards: list[_Walked]


def listed(store: Store, tell: Callable[[str], None] | None) -> list[Shard] | None:
    """The shards of index.json, in its order; None where there is no such file, or one of others.

    Raises BadInput where it is damaged.
    """
    try:
        text = store.small(INDEX)
    except Unavailable as error:
        raise BadInput(f"{store.where}/{INDEX} cannot be read ({error}): try again later") from None
    if text is None:
        return None
    try:
        told = msgspec.json.decode(text, type=_Index).shards
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise _no_index(store, str(error)) from None
    if told is None:
        if tell:
            tell(f"{store.where}/{INDEX} tells of no shards: they are looked for")
        return None
    names = Counter(shard.name for shard in told)
    for shard in told:
        if not (is_plain(shard.name) and shard.name.endswith(".tar")):
            raise _no_index(store, f"it names `{shard.name[:80]}`, which is no tar beside it")
        if names[shard.name] > 1:
            raise _no_index(store, f"it names {shard.name} twice")
        if not is_likely(shard.samples, shard.bytes):
            counts = f"{shard.samples:,} samples in {shard.bytes:,} bytes"
            raise _no_index(store, f"{shard.name} cannot hold {counts}")
        if shard.sha256 is not None and not _SHA256.fullmatch(shard.sha256):
            raise _no_index(store, f"the sha256 of {shard.name} is none")
    if not any(shard.samples for shard in told):
        raise _no_index(store, "it tells of no sample")
    return [Shard(shard.name, shard.samples, shard.bytes, shard.sha256) for shard in told]


def _no_index(store: Store, why: str) -> BadInput:
    return BadInput(
        f"{store.where}/{INDEX} is not an index of shards ({why}): copy it again, or remove it, "
        "and the shards are looked through instead"
    )


def _is_harmed(entry: _Walked) -> bool:
    return not all(map(is_harmless, entry.lost))


def foreign(
    store: Store, loader: LoaderSettings, tell: Callable[[str], None] | None
) -> tuple[list[Shard], Counter[str]]:
    """The tars of a store without index.json, by name, and what of them cannot be learned from.

    Each is walked once; what it holds is noted, and true as long as its length is the same.
    """
    names = store.tars()
    if not names:
        raise BadInput(
            f"{store.where} holds no tar: name a folder of WebDataset shards, and unpack those "
            "that are packed (`gunzip` for .tar.gz)"
        )
    refuse = loader.damaged == "refuse"
    noted = {entry.name: entry for entry in _noted(store)}
    lost: Counter[str] = Counter()
    known: dict[str, _Walked] = {}
    todo: list[tuple[str, int | None]] = []
    for name in names:
        size, entry = store.size(name), noted.get(name)
        # Where nobody tells a length, a change is met when the shard is read.
        is_known = entry is not None and size in (entry.bytes, None)
        if entry is None or not is_known or (refuse and _is_harmed(entry)):
            todo.append((name, size))
        else:
            known[name] = entry
    if todo:
        if tell:
            tell(f"{len(todo):,} shards are looked through for the first time")
        known |= {entry.name: entry for entry in _walk_all(store, loader, todo, tell, lost)}
        _note(store, known.values())
    elif len(known) != len(noted):
        _note(store, known.values())
    entries = [known[name] for name in names if name in known]
    for entry in entries:
        lost.update(entry.lost)
        lost[_EMPTY] += not entry.samples
    if not any(entry.samples for entry in entries):
        why = ", ".join(f"{reason}: {count:,}" for reason, count in sorted(lost.items()) if count)
        raise BadInput(f"{store.where} holds no sample with an image and a caption ({why})")
    return [Shard(e.name, e.samples, e.bytes) for e in entries], +lost


def _walk_all(
    store: Store,
    loader: LoaderSettings,
    todo: list[tuple[str, int | None]],
    tell: Callable[[str], None] | None,
    lost: Counter[str],
) -> list[_Walked]:
    """What each shard holds; those that cannot be had are counted in `lost`."""
    refuse = loader.damaged == "refuse"

    def walked(named: tuple[str, int | None]) -> _Walked | Unavailable:
        name, size = named
        try:
            if size is None:
                size = store.local(name).stat().st_size
            found = places_of(store, Shard(name, 0, size), tell or (lambda _: None), refuse=refuse)
        except Unavailable as error:
            return error
        except FileNotFoundError:
            return Unavailable(name, "missing")
        return _Walked(name, size, len(found), found.lost)

    # Each waits for its shard to be fetched before it walks.
    threads = min(len(todo), max(os.cpu_count() or 1, loader.fetches), _MAX_THREADS)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="walk")
    done = []
    try:
        for entry in pool.map(walked, todo):
            if isinstance(entry, _Walked):
                done.append(entry)
                continue
            if refuse:
                raise BadInput(
                    f"{store.where}/{entry.name} cannot be had ({entry.reason}): copy it again, "
                    "or set loader.damaged = `skip`"
                )
            lost[f"shard: {entry.reason}"] += 1
    finally:
        pool.shutdown(cancel_futures=True)
    return done


def _noted(store: Store) -> list[_Walked]:
    """What was found before; nothing where that cannot be read."""
    try:
        text = (store.notes / _SUMMARY).read_bytes()
        told = msgspec.json.decode(text, type=_Summary)
    except (OSError, msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return []
    if told.version != _VERSION:
        return []
    return [entry for entry in told.shards if is_likely(entry.samples, entry.bytes)]


def _note(store: Store, entries: Iterable[_Walked]) -> None:
    summary = _Summary(_VERSION, sorted(entries, key=lambda entry: entry.name))
    place = store.notes / _SUMMARY
    staged = place.with_name(f".{place.name}.{uuid4().hex}")
    try:
        staged.write_bytes(msgspec.json.encode(summary))
        staged.replace(place)
    except OSError as error:
        raise unwritten(store.notes, error) from None
    finally:
        staged.unlink(missing_ok=True)
