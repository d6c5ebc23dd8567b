"""Decisions: what a person said of overlaps on the audit's page, laid over the verdicts.

A threshold over PDQ's distance decides the pairs of a whole evaluation set, as CLIP set one for
each by hand; then single pairs are accepted or rejected. The file is the one that the page
exports, and may have been written by anybody.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import storage
from pipeline.digests import Digest
from pipeline.errors import BadInput

FORMAT = "webimagetext decisions 1"
BY_THRESHOLD, BY_HAND = "threshold", "hand"
KNOWN_BY = ("source", "eval_id", "pair_id", "variant", "phash_distance", "pdq_distance")
"""The columns by which a decisions file knows the overlaps: not the verdicts."""
_BITS = 256
_MAX_BYTES = 64 * 1024 * 1024

_Name = Annotated[str, msgspec.Meta(max_length=4096)]
Key = tuple[str, str, str]
"""pair_id, source and eval_id of an overlap."""


class _Threshold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pdq_distance: Annotated[int, msgspec.Meta(ge=0, le=256)]


class _Pair(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pair_id: _Name
    source: _Name
    eval_id: _Name
    verdict: Literal["accept", "reject"]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal["webimagetext decisions 1"]
    audit: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    sets: dict[_Name, _Threshold]
    pairs: list[_Pair]


@dataclass(frozen=True)
class Decisions:
    """A decisions file."""

    audit: str
    """The digest of the overlaps that the person saw."""
    thresholds: Mapping[str, int]
    """By evaluation set: an image within so many bits of PDQ is an overlap, others are not."""
    pairs: Mapping[Key, bool]
    """Whether the two are the same picture."""


@dataclass(frozen=True)
class Applied:
    """Overlaps with decided verdicts, and a column `decided`: by threshold, by hand, or null."""

    rows: pa.Table
    changed: int
    """Rows whose verdict is another one now."""
    found: set[Key]
    """The decided pairs among them."""


def read(path: str | Path) -> Decisions:
    """The decisions in a file. Raises BadInput, which names the file and what is wrong."""
    remedy = "export it once more from the audit's report.html"
    try:
        with storage.opened(storage.place(path)) as stream:
            body = stream.read(_MAX_BYTES + 1)
        if len(body) > _MAX_BYTES:
            raise BadInput(f"{path}: over {_MAX_BYTES:,} bytes are no decisions file: {remedy}")
        told = msgspec.json.decode(body, type=_File)
    except OSError as error:
        raise BadInput(
            f"{path} cannot be read ({error.strerror or error}): name a decisions file"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"{path} is no decisions file: {error}: {remedy}") from None
    pairs: dict[Key, bool] = {}
    for pair in told.pairs:
        key = (pair.pair_id, pair.source, pair.eval_id)
        if key in pairs:
            raise BadInput(f"{path} decides pair {pair.pair_id} of {pair.source} twice: {remedy}")
        pairs[key] = pair.verdict == "accept"
    thresholds = {name: threshold.pdq_distance for name, threshold in told.sets.items()}
    return Decisions(told.audit, thresholds, pairs)


def apply(overlaps: pa.Table, decisions: Decisions) -> Applied:
    """`overlaps`, all or some of them, with what was decided of them."""
    verdict, decided, found = _decide(overlaps, decisions)
    changed = pc.sum(pc.not_equal(overlaps.column("verdict"), verdict)).as_py() or 0
    place = overlaps.column_names.index("verdict")
    rows = overlaps.set_column(place, overlaps.schema.field("verdict"), verdict)
    return Applied(rows.append_column("decided", decided), changed, found)


def apply_to_batches(
    batches: Iterator[pa.RecordBatch], decisions: Decisions
) -> Iterator[pa.RecordBatch]:
    """The same for Spark's mapInArrow: verdicts alone, no column more."""
    for batch in batches:
        verdict, _, _ = _decide(batch, decisions)
        place = batch.schema.get_field_index("verdict")
        yield batch.set_column(place, batch.schema.field("verdict"), verdict)


def digest(batches: Iterable[pa.RecordBatch]) -> str:
    """What a decisions file knows the overlaps by, in whatever order they come."""
    found = Digest()
    for batch in batches:
        found.add([batch.column(name) for name in KNOWN_BY])
    return found.hexdigest()


def _decide(
    rows: pa.Table | pa.RecordBatch, decisions: Decisions
) -> tuple[pa.Array, pa.Array, set[Key]]:
    """The verdict of each row, who decided it, and the decided pairs that were found."""
    if not decisions.thresholds and not decisions.pairs:
        return rows.column("verdict"), pa.nulls(rows.num_rows, pa.string()), set()
    verdicts = np.array(rows.column("verdict").to_pylist(), dtype=object)
    decided = np.full(rows.num_rows, None, dtype=object)
    # What cannot be known, since a reference has no PDQ, is within no threshold.
    distances = rows.column("pdq_distance").fill_null(_BITS + 1).to_numpy(zero_copy_only=False)
    # A flat image's hash says nothing, however near it is: only a person decides it, by hand.
    has_hash = verdicts != "undecidable"
    for name, most in decisions.thresholds.items():
        is_of_set = pc.equal(rows.column("source"), name).to_numpy(zero_copy_only=False)
        is_judged = is_of_set.astype(bool) & has_hash
        verdicts[is_judged] = np.where(distances[is_judged] <= most, "overlap", "candidate")
        decided[is_judged] = BY_THRESHOLD
    found: set[Key] = set()
    named = pa.array({pair_id for pair_id, _, _ in decisions.pairs}, pa.string())
    is_named = pc.is_in(rows.column("pair_id"), value_set=named).to_numpy(zero_copy_only=False)
    places = np.flatnonzero(is_named)
    of_pairs = rows.select(["pair_id", "source", "eval_id"]).take(pa.array(places))
    for place, row in zip(places.tolist(), of_pairs.to_pylist(), strict=True):
        key = (row["pair_id"], row["source"], row["eval_id"])
        accepted = decisions.pairs.get(key)
        if accepted is not None:
            found.add(key)
            verdicts[place] = "overlap" if accepted else "candidate"
            decided[place] = BY_HAND
    return pa.array(verdicts, pa.string()), pa.array(decided, pa.string()), found
