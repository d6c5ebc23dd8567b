"""Folder: what lies in a folder of shards, and what its index promises."""

import json
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline import places, storage
from pipeline.card import card
from pipeline.compaction import IN_JSON
from pipeline.errors import BadInput
from pipeline.placing import CARD, LOCK
from pipeline.storage import Place
from pipeline.verify.findings import Findings
from pipeline.verify.shards import Promise

INDEX, SIZES, MANIFEST = "index.json", "sizes.json", "_manifest.json"
_MAX_JSON_BYTES = 1 << 28
"""Of an index: 40,000 shards take 6 MB."""
_MAX_CARD_BYTES = 1 << 20
_NAME = re.compile(r"[0-9]{6,}\.tar")
_SHA256 = re.compile("[0-9a-f]{64}")
_BY_OTHERS = (".nv-meta", "_index.json")
"""What readers note in a folder: Energon, and our loader."""
_INDEX_BY_OTHERS = (".tar.idx",)


@dataclass(frozen=True)
class Folder:
    """The shards of a folder."""

    path: Place
    names: list[str]
    promises: dict[str, Promise]
    """Of every name, where the folder is ours; else of none."""
    ours: bool


def look(where: Place, found: Findings, *, ours: bool = False) -> Folder:
    """The shards at `where`; it is `ours` where it has our index. What is wrong is told in `found`.

    Raises BadInput where there is nothing to verify.
    """
    if storage.is_remote(where):
        below = [storage.below(where, file) for file in storage.files(where)]
        if not below:
            raise BadInput(f"{where} holds nothing: name a folder of shards")
        with tempfile.TemporaryDirectory(prefix="wit-verify-") as scratch:
            for name in (INDEX, SIZES, MANIFEST, CARD):
                storage.fetch(where / name, Path(scratch, name))
            names = sorted({name.split("/")[0] for name in below})
            return replace(_look(Path(scratch), where, names, found, ours=ours), path=where)
    if not where.is_dir():
        raise BadInput(f"{where} is no folder: name one that holds shards")
    return _look(where, where, sorted(entry.name for entry in where.iterdir()), found, ours=ours)


def _look(path: Path, where: Place, names: list[str], found: Findings, *, ours: bool) -> Folder:
    index = _json(path / INDEX, found) if INDEX in names else None
    is_made_by_others = isinstance(index, dict) and "shards" not in index
    if ours or MANIFEST in names or (INDEX in names and not is_made_by_others):
        return _ours(path, names, index, found)
    tars = [name for name in names if name.endswith(".tar") and not name.startswith(".")]
    for name in names:
        if name.endswith((".tar.gz", ".tgz")):
            found.add("packed in gzip", name, detail="no sample can be read alone: gunzip it")
    if not tars and not found:
        raise BadInput(f"{where} holds no tar: name a folder of shards")
    return Folder(path, tars, {}, ours=False)


def _ours(path: Path, names: list[str], index: Any, found: Findings) -> Folder:
    if INDEX not in names:
        found.add("no index", INDEX)
    promises = {promise.name: promise for promise in _promises(index, found)}
    _check_index(index, list(promises.values()), found)
    _check_sizes(path, promises, found)
    _check_manifest(path, promises, found)
    _check_card(path, found)
    _check_strays(names, promises, found)
    return Folder(path, list(promises), promises, ours=True)


def _promises(index: Any, found: Findings) -> Iterator[Promise]:
    """The shards that the index names, as far as they can be shards of this folder."""
    shards = index.get("shards") if isinstance(index, dict) else None
    if not isinstance(shards, list):
        if index is not None:
            found.add("an index that is none", INDEX, detail="it has no list of shards")
        return
    seen = set()
    for shard in shards:
        values = [shard.get(key) if isinstance(shard, dict) else None for key in _KEYS]
        name, samples, size, sha256 = values
        is_sound = (
            isinstance(name, str)
            and isinstance(sha256, str)
            and _SHA256.fullmatch(sha256)
            and all(type(count) is int and count >= 0 for count in (samples, size))
        )
        if not is_sound:
            found.add("an index that is none", INDEX, detail=f"a shard is {shard}")
        elif not _NAME.fullmatch(str(name)):
            # Also one that leads to another folder.
            found.add("an index that names no shard", INDEX, detail=str(name))
        elif name in seen:
            found.add("an index that names a shard twice", INDEX, detail=str(name))
        else:
            seen.add(name)
            yield Promise(*values)  # type: ignore[arg-type]


_KEYS = ("name", "samples", "bytes", "sha256")


def _check_index(index: Any, promises: list[Promise], found: Findings) -> None:
    if not promises:
        found.add("an index without shards", INDEX)
        return
    size, total = index.get("samples_per_shard"), sum(promise.samples for promise in promises)
    if index.get("samples") != total:
        told = f"{index.get('samples')}, and its shards have {total:,}"
        found.add("an index that does not add up", INDEX, detail=told)
    for n, promise in enumerate(promises):
        if promise.name != f"{n:06d}.tar":
            told = f"{promise.name} is shard {n}"
            found.add("an index that numbers otherwise", INDEX, detail=told)
        is_last = n == len(promises) - 1
        fits = type(size) is int and (
            0 < promise.samples <= size if is_last else promise.samples == size
        )
        if not fits:
            told = f"{promise.name} has {promise.samples:,}, and a shard {size}"
            found.add("a shard of another size", INDEX, detail=told)


def _check_sizes(path: Path, promises: dict[str, Promise], found: Findings) -> None:
    if not (path / SIZES).is_file():
        found.add("no sizes", SIZES)
        return
    told = _json(path / SIZES, found)
    wanted = {name: promise.samples for name, promise in promises.items()}
    if told is not None and told != wanted:
        found.add("other sizes", SIZES, detail="they are not those of index.json")


def _check_manifest(path: Path, promises: dict[str, Promise], found: Findings) -> None:
    """The run's own count, where the folder still lies in a run or came with its manifest."""
    if not (path / MANIFEST).is_file():
        return
    told = _json(path / MANIFEST, found)
    rows, total = told.get("rows") if isinstance(told, dict) else None, 0
    total = sum(promise.samples for promise in promises.values())
    if rows != total:
        detail = f"{rows} rows, and index.json says {total:,} samples"
        found.add("a manifest of other rows", MANIFEST, detail=detail)


def _check_card(path: Path, found: Findings) -> None:
    """What others must be told of the folder; more may stand around it."""
    file = path / CARD
    if not file.is_file():
        found.add("no card", CARD, detail="Hugging Face's datasets finds no tars without it")
        return
    try:
        with file.open("rb") as opened:
            told = opened.read(_MAX_CARD_BYTES)
    except OSError as error:
        found.add("another card", CARD, detail=str(error.strerror))
        return
    cards = [card(IN_JSON, alternatives=kept) for kept in (False, True)]
    if not any(each.split("---\n")[1].encode() in told for each in cards):
        found.add("another card", CARD, detail="it tells datasets of other files or columns")


def _check_strays(names: list[str], promises: dict[str, Promise], found: Findings) -> None:
    known = {INDEX, SIZES, MANIFEST, CARD, LOCK, *_BY_OTHERS}
    for name in promises:
        known |= {name, name.removesuffix(".tar") + ".parquet", places.beside(name)}
        known |= {name.removesuffix(".tar") + suffix for suffix in _INDEX_BY_OTHERS}
    for name in names:
        if name in known:
            continue
        if name.startswith((".", "_")):
            found.add("left of an interrupted run", name, detail="run `wit shard` again")
        elif name.endswith(".tar"):
            found.add("a tar that the index does not name", name)
        else:
            found.add("a file that is no part of the shards", name)


def _json(path: Path, found: Findings) -> Any:
    """What a file holds; None, and told, where that is no JSON."""
    try:
        if not path.is_file() or path.stat().st_size > _MAX_JSON_BYTES:
            found.add("JSON that cannot be parsed", path.name, detail="no file, or too long a one")
            return None
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        found.add("JSON that cannot be parsed", path.name, detail=f"{type(error).__name__} {error}")
        return None
