"""Scan: every image of a WebDataset that somebody else made, its place, caption and fingerprint.

reads   tars, plain or in gzip
writes  scanned: a parquet for each tar, with what was counted in its footer

Samples are told apart as the webdataset package does: neighbouring members of one key. What it
refuses (a key twice, a member twice) is read all the same: an audit may leave nothing out.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pipeline.captions import of_sample, parted, suffix_of
from pipeline.decoding import Undecodable, decoded
from pipeline.hashes import of_image
from pipeline.keyed import IMAGES, MAX_MEMBERS, MAX_TEXT_BYTES, TEXTS, Part, keyed
from pipeline.members import Damage, Member, members
from pipeline.schemas import FINGERPRINTS, SCANNED

_MAX_CAPTION = 1 << 16
"""Characters; what is behind them is no caption any more."""
_GROUP_CHARS = 1 << 24
_GROUP_ROWS = 8192
_NOTE = b"scanned"


class Shard(NamedTuple):
    """A tar of a corpus."""

    name: str
    """By which its pairs are named: unique within the corpus."""
    path: str
    file: str
    """The parquet that its scan is written to."""


@dataclass
class Told:
    """What a scan counts, of one shard or of several."""

    images: int = 0
    """Those that were hashed."""
    undecodable: Counter[str] = field(default_factory=Counter)
    """Images that could not be read, by reason."""
    refused: Counter[str] = field(default_factory=Counter)
    """Members that are no file: links, devices, sparse files."""
    oddities: Counter[str] = field(default_factory=Counter)
    """What was read all the same: keys twice, names that lead outside, images without a text."""
    damages: list[tuple[str, int, str]] = field(default_factory=list)
    """Shard, byte and what is wrong there."""

    def add(self, other: "Told") -> None:
        self.images += other.images
        self.undecodable += other.undecodable
        self.refused += other.refused
        self.oddities += other.oddities
        self.damages += other.damages

    def as_json(self) -> dict[str, Any]:
        """The counts as plain values."""
        return {
            name: dict(sorted(value.items())) if isinstance(value, Counter) else value
            for name, value in vars(self).items()
        }


def _is_wanted(name: str) -> bool:
    found = parted(name)
    return found is not None and suffix_of(found[1]) in (*IMAGES, *TEXTS)


class _Held(NamedTuple):
    """A member of a sample: of an image what it is known by, of a text its bytes."""

    extension: str
    member: Member
    known: dict[str, Any] | None
    text: bytes | None


class _Names:
    """Of pairs: what is taken, and how often it was asked for."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._times: Counter[str] = Counter()

    def own(self, name: str) -> str:
        found = name
        while found in self._taken:
            self._times[name] += 1
            found = f"{name}#{self._times[name] + 1}"
        self._taken.add(found)
        return found


def rows_in(shard: Shard, told: Told) -> Iterator[dict[str, Any]]:
    """A row of SCANNED for each image of a shard, in order; the rest is counted in `told`."""
    names = _Names()
    keys: set[str] = set()
    key, held = "", list[_Held]()
    for found in keyed(members(Path(shard.path), _is_wanted)):
        if isinstance(found, Damage):
            told.damages.append((shard.name, found.at, found.what))
            continue
        member = found.member if isinstance(found, Part) else found
        if member.refused is not None:
            told.refused[member.refused] += 1
            continue
        if ".." in PurePosixPath(member.name).parts or member.name.startswith("/"):
            told.oddities["a name that leads outside"] += 1
        if not isinstance(found, Part):
            told.oddities["a member without a key"] += 1
            continue
        if found.is_first:
            yield from _sample(shard, key, held, names, told)
            key, held = found.key, []
            told.oddities["a key twice"] += key in keys
            keys.add(key)
        elif len(held) == MAX_MEMBERS:
            # More are told in turns, so that no key fills the memory.
            yield from _sample(shard, key, held, names, told)
            held = []
            told.oddities[f"a sample of more than {MAX_MEMBERS:,} members"] += 1
        held.append(_held(found.extension, member, told))
    yield from _sample(shard, key, held, names, told)
    for counts in (told.undecodable, told.refused, told.oddities):
        for reason in [reason for reason, count in counts.items() if not count]:
            del counts[reason]


def _held(extension: str, member: Member, told: Told) -> _Held:
    """A member, without the bytes of an image."""
    data, bare = member.data, member._replace(data=None)
    if suffix_of(extension) in IMAGES:
        return _Held(extension, bare, _hashed(data or b""), None)
    if data is not None and len(data) > MAX_TEXT_BYTES:
        told.oddities["a text too long to be read"] += 1
        data = None
    return _Held(extension, bare, None, data)


def _sample(
    shard: Shard, key: str, held: list[_Held], names: _Names, told: Told
) -> Iterator[dict[str, Any]]:
    texts: dict[str, bytes | None] = {}
    for one in held:
        texts.setdefault(suffix_of(one.extension), one.text)
    caption = of_sample(texts.get("txt"), texts.get("json"))
    if caption is not None and len(caption) > _MAX_CAPTION:
        told.oddities[f"a caption cut off behind {_MAX_CAPTION:,} characters"] += 1
        caption = caption[:_MAX_CAPTION]
    images = [one for one in held if one.known is not None]
    told.oddities["a member twice"] += len(held) - len({one.extension for one in held})
    if held and not images:
        told.oddities["a sample without an image"] += 1
    for extension, member, known, _ in images:
        name = f"{shard.name}/{key}" if len(images) == 1 else f"{shard.name}/{key}.{extension}"
        pair_id = names.own(name)
        told.oddities["an image without a text"] += caption is None
        place = {"path": shard.path, "offset": member.offset, "bytes": member.size}
        row = {"pair_id": pair_id, "caption": caption, **place, **(known or {})}
        told.images += row["dropped_for"] is None
        told.undecodable[str(row["dropped_for"])] += row["dropped_for"] is not None
        yield row


def _hashed(data: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    try:
        image = decoded(data)
    except Undecodable as error:
        return {"sha256": digest, "dropped_for": error.reason if data else "empty"}
    found = of_image(image)
    return {**found._asdict(), "sha256": digest, "side": min(image.size), "dropped_for": None}


# -- a task for each shard -----------------------------------------------------------------


def failures(spark: SparkSession, shards: Sequence[Shard]) -> list[tuple[str, str]]:
    """Scan every shard, a task each; the names of those that cannot be read, and why."""
    todo = [(number, *shard) for number, shard in enumerate(shards)]
    rows = spark.createDataFrame(todo, "number int, name string, path string, file string")

    def scan_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for row in batch.to_pylist():
                error = None
                try:
                    write(Shard(row["name"], row["path"], row["file"]))
                except OSError as failure:
                    error = str(failure)
                columns = [pa.array([row["name"]]), pa.array([error], pa.string())]
                yield pa.RecordBatch.from_arrays(columns, ["name", "error"])

    # Spark maps an id to the partition of that number: one task, one shard.
    tasks = rows.repartitionById(max(1, len(todo)), "number")
    told = tasks.mapInArrow(scan_batches, "name string, error string").collect()
    return sorted((row["name"], row["error"]) for row in told if row["error"] is not None)


def fingerprints(scanned: DataFrame) -> DataFrame:
    """The scanned images that were hashed, as the corpus of schemas.FINGERPRINTS."""
    made = {"id": F.col("pair_id"), "source": F.lit("corpus"), "variant": F.lit("original")}
    made["look"] = F.lit(None).cast("binary")
    columns = [made.get(name, F.col(name)).alias(name) for name in FINGERPRINTS.names]
    return scanned.where(F.col("dropped_for").isNull()).select(*columns)


def whole(evaluation: DataFrame) -> DataFrame:
    """The fingerprints of evaluation images that could be hashed."""
    return evaluation.where(F.col("dropped_for").isNull()).select(*FINGERPRINTS.names)


def write(shard: Shard) -> Told:
    """Scan a shard into its parquet, staged and moved into place when whole."""
    staged = Path(shard.file).with_name(f".{Path(shard.file).name}.{uuid4().hex}")
    told = Told()
    try:
        with pq.ParquetWriter(staged, SCANNED, compression="zstd") as file:
            group: list[dict[str, Any]] = []
            chars = 0
            for row in rows_in(shard, told):
                group.append(row)
                chars += len(row["pair_id"]) + len(row["caption"] or "")
                if len(group) == _GROUP_ROWS or chars >= _GROUP_CHARS:
                    file.write_table(pa.Table.from_pylist(group, SCANNED))
                    group, chars = [], 0
            file.write_table(pa.Table.from_pylist(group, SCANNED))
            file.add_key_value_metadata({_NOTE: json.dumps(told.as_json()).encode()})
        staged.replace(shard.file)
    finally:
        staged.unlink(missing_ok=True)
    return told


def read_told(shard: Shard) -> Told:
    """What the scan of a shard counted, from the footer of its parquet."""
    note = json.loads(pq.read_metadata(shard.file).metadata[_NOTE])
    counts = {name: Counter(note[name]) for name in ("undecodable", "refused", "oddities")}
    return Told(note["images"], damages=[tuple(entry) for entry in note["damages"]], **counts)
