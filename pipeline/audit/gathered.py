"""Gathered: what an audit tells of the overlaps, in one pass over them.

Of what came near and is no overlap there may be hundreds of millions of rows. In memory are a row
for each evaluation image, the overlaps proper, and some of each distance to be shown.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline import decisions
from pipeline.audit import references
from pipeline.decisions import BY_HAND, Decisions, Key
from pipeline.digests import Digest
from pipeline.schemas import OVERLAPS
from pipeline.settings import EvalSet

_IMAGE = ("source", "eval_id")
_PDQ_BITS = 256
_BIN = 8
"""Bits of PDQ: pairs are shown from every bin of this width."""
_BINS = _PDQ_BITS // _BIN + 2
"""The last one is for images too flat for hashes: their distances say nothing."""
_NO_RANK = np.uint64(2**64 - 1)


class PerImage:
    """The least or the greatest value of some columns for each evaluation image.

    They are merged when there are `spare` rows more than twice the images."""

    def __init__(self, kinds: Mapping[str, str], *, spare: int = 1_000_000) -> None:
        self._kinds = [(column, kind) for column, kind in kinds.items()]
        self._parts: list[pa.Table] = []
        self._rows, self._images, self._spare = 0, 0, spare

    def add(self, rows: pa.Table) -> None:
        """Add rows with the columns, and the source and eval_id of their image."""
        self._merge([rows])
        if self._rows > 2 * self._images + self._spare:
            self._images = self.table().num_rows

    def table(self) -> pa.Table:
        """A row for each image."""
        if len(self._parts) > 1:
            parts, self._parts, self._rows = self._parts, [], 0
            self._merge(parts)
        if not self._parts:
            return pa.table({name: pa.array([], pa.string()) for name in _IMAGE})
        return self._parts[0]

    def _merge(self, parts: list[pa.Table]) -> None:
        grouped = pa.concat_tables(parts).group_by(list(_IMAGE)).aggregate(self._kinds)
        names = [*_IMAGE, *[f"{column}_{kind}" for column, kind in self._kinds]]
        columns = [*_IMAGE, *[column for column, _ in self._kinds]]
        self._parts.append(grouped.select(names).rename_columns(columns))
        self._rows += grouped.num_rows


class _Sample:
    """Of every set and bin the rows of the lowest rank: a hash, so that it is a fair sample and
    the same one in whatever order the rows come."""

    def __init__(self, names: Sequence[str], most: int) -> None:
        self._names, self._most = pa.array(names, pa.string()), most
        self._highest = np.full(len(names) * _BINS, _NO_RANK)
        self._held: tuple[NDArray[np.int64], NDArray[np.uint64], pa.Table] | None = None

    def add(self, rows: pa.Table, ranks: NDArray[np.uint64]) -> None:
        if not self._most or not rows.num_rows:
            return
        place = pc.index_in(rows.column("source"), value_set=self._names).to_numpy()
        bins = rows.column("pdq_distance").to_numpy() // _BIN
        is_flat = pc.equal(rows.column("before"), "undecidable").to_numpy()
        groups = place.astype(np.int64) * _BINS + np.where(is_flat.astype(bool), _BINS - 1, bins)
        near = np.flatnonzero(ranks < self._highest[groups])
        groups, ranks, rows = groups[near], ranks[near], rows.take(pa.array(near))
        if self._held is not None:
            groups = np.concatenate([self._held[0], groups])
            ranks = np.concatenate([self._held[1], ranks])
            rows = pa.concat_tables([self._held[2], rows])
        order = np.lexsort((ranks, groups))
        first = np.searchsorted(groups[order], groups[order])
        turns = np.arange(len(order)) - first
        last = order[turns == self._most - 1]
        self._highest[groups[last]] = ranks[last]
        kept = order[turns < self._most]
        rows = rows.take(pa.array(kept)).combine_chunks()
        self._held = groups[kept], ranks[kept], rows

    def shown(self, name: str, most: int) -> list[dict[str, Any]]:
        """Some rows of a set, from every bin alike: one of each in turn."""
        if self._held is None:
            return []
        groups, _, rows = self._held
        own = np.flatnonzero(groups // _BINS == self._names.index(name).as_py())
        turns = np.arange(len(own)) - np.searchsorted(groups[own], groups[own])
        chosen = own[np.lexsort((groups[own], turns))[:most]]
        found: list[dict[str, Any]] = rows.take(pa.array(chosen)).to_pylist()
        names = ("pdq_distance", "phash_distance", "pair_id", "eval_id")
        return sorted(found, key=lambda row: [row[name] for name in names])


class Gathered:
    """What is known after all batches of overlaps were added."""

    def __init__(self, sets: Sequence[EvalSet], taken: Decisions, most_shown: int) -> None:
        self._names = [evalset.name for evalset in references.evaluation(sets)]
        self._taken = taken
        self._images = PerImage(
            {"sure": "max", "open": "max", "phash_distance": "min", "pdq_distance": "min"}
        )
        self._sure = [_SURE.empty_table()]
        self._avoided = [OVERLAPS.empty_table()]
        self.sample = _Sample(self._names, most_shown)
        self.digest = Digest()
        """By which a decisions file knows them."""
        self.rows = 0
        """Of evaluation sets."""
        self.decided: Counter[str] = Counter()
        """Rows that a person decided, by set."""
        self.changed = 0
        """Rows whose verdict is another one for that."""
        self.found: set[Key] = set()
        """Pairs decided by hand that are there."""
        self.overturned: set[str] = set()
        """The `pair_id` of what was an overlap until a person decided otherwise."""
        self.near: Counter[str] = Counter()
        """By set of another purpose: pairs of images that are near, and not confirmed."""

    def add(self, batch: pa.RecordBatch) -> None:
        """Add some overlaps, with the verdicts of the cascade."""
        rows = pa.Table.from_batches([batch])
        is_known = references.is_of(rows, self._names)
        self._add_avoided(rows.filter(pc.invert(is_known)))
        rows = rows.filter(is_known)
        ranks = self.digest.add([rows.column(name) for name in decisions.KNOWN_BY])
        rows = decided(rows, self._taken)
        self.rows += rows.num_rows
        self._add_images(rows)
        is_sure = pc.equal(rows.column("verdict"), "overlap")
        self._sure.append(rows.filter(is_sure).select(_SURE.names))
        self._add_decisions(rows)
        self.sample.add(rows, ranks)

    def images(self, name: str) -> pa.Table:
        """The images of a set that anything came near to: whether one overlaps (`sure`), whether
        something with a hash came near that does not (`open`), and the least distances."""
        return self._images.table().filter(pc.field("source") == name)

    def sure(self) -> pa.Table:
        """The overlaps proper, of evaluation sets, by set, image and pair."""
        self._sure = [pa.concat_tables(self._sure)]
        order = [(name, "ascending") for name in ("source", "eval_id", "pair_id")]
        return self._sure[0].sort_by(order)

    def avoided(self) -> pa.Table:
        """What shows images of sets of another purpose."""
        order = [(name, "ascending") for name in ("source", "eval_id", "pair_id")]
        return pa.concat_tables(self._avoided).sort_by(order)

    def _add_images(self, rows: pa.Table) -> None:
        if not rows.num_rows:
            return
        is_sure = pc.equal(rows.column("verdict"), "overlap")
        # Flat images are near to one another: their distances say nothing.
        has_hash = pc.not_equal(rows.column("before"), "undecidable")
        is_open = pc.equal(rows.column("verdict"), "candidate")
        columns = {name: rows.column(name) for name in _IMAGE}
        for name in ("phash_distance", "pdq_distance"):
            columns[name] = pc.if_else(has_hash, rows.column(name), pa.scalar(None, pa.int32()))
        self._images.add(pa.table({**columns, "sure": is_sure, "open": is_open}))

    def _add_decisions(self, rows: pa.Table) -> None:
        by_person = rows.filter(pc.is_valid(rows.column("decided")))
        if not by_person.num_rows:
            return
        for told in pc.value_counts(by_person.column("source")).to_pylist():
            self.decided[told["values"]] += told["counts"]
        is_other = pc.not_equal(by_person.column("verdict"), by_person.column("before"))
        changed = by_person.filter(is_other)
        self.changed += changed.num_rows
        was_sure = pc.equal(changed.column("before"), "overlap")
        self.overturned |= set(changed.filter(was_sure).column("pair_id").to_pylist())
        by_hand = by_person.filter(pc.equal(by_person.column("decided"), BY_HAND))
        names = ("pair_id", "source", "eval_id")
        self.found |= set(zip(*[by_hand.column(name).to_pylist() for name in names], strict=True))

    def _add_avoided(self, rows: pa.Table) -> None:
        is_sure = pc.equal(rows.column("verdict"), "overlap")
        self._avoided.append(rows.filter(is_sure))
        near = rows.filter(pc.invert(is_sure)).column("source")
        for told in pc.value_counts(near).to_pylist():
            self.near[told["values"]] += told["counts"]


def decided(rows: pa.Table, taken: Decisions) -> pa.Table:
    """Overlaps of evaluation sets with what was decided of them: their verdict, who `decided` it,
    and the one `before`. All distances are known."""
    for name, most in references.UNKNOWN.items():
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, rows.schema.field(name), rows.column(name).fill_null(most))
    before = rows.column("verdict")
    return decisions.apply(rows, taken).rows.append_column("before", before)


_SURE = pa.schema([*OVERLAPS, pa.field("decided", pa.string()), pa.field("before", pa.string())])
