"""Live: what the page needs to count a set's overlaps while its reader decides."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.audit.gathered import PerImage
from pipeline.decisions import BY_HAND

_PDQ_BITS = 256
_SHOWN = ("pdq_distance", "before")

Row = dict[str, Any]


class Live:
    """The shown pairs one by one, and what of the others depends on a threshold.

    An image is told by whether a pair that is not shown makes it an overlap `now`, and by the
    nearest of those that a threshold would: `within` sums them up for the images that no shown
    pair is of, by threshold.
    """

    def __init__(self, shown: Mapping[str, Sequence[Row]]) -> None:
        self._shown = shown
        self._keys = {
            (row["pair_id"], name, row["eval_id"]) for name, rows in shown.items() for row in rows
        }
        self._pair_ids = pa.array(sorted({key[0] for key in self._keys}), pa.string())
        self._images = PerImage({"now": "max", "near": "min"})

    def add(self, rows: pa.Table) -> None:
        """Add overlaps of evaluation sets, decided (pipeline.audit.gathered)."""
        rows = rows.filter(pa.array(~self._are_shown(rows)))
        if not rows.num_rows:
            return
        by_hand = pc.fill_null(pc.equal(rows.column("decided"), BY_HAND), fill_value=False)
        before, verdict = rows.column("before"), rows.column("verdict")
        is_accepted = pc.and_(by_hand, pc.equal(verdict, "overlap"))
        is_open = pc.invert(by_hand)
        now = pc.or_(is_accepted, pc.and_(is_open, pc.equal(before, "overlap")))
        has_hash = pc.and_(is_open, pc.not_equal(before, "undecidable"))
        near = pc.if_else(has_hash, rows.column("pdq_distance"), _PDQ_BITS + 1)
        near = pc.if_else(is_accepted, -1, near)
        names = {name: rows.column(name) for name in ("source", "eval_id")}
        self._images.add(pa.table({**names, "now": now, "near": near}))

    def of_set(self, name: str) -> dict[str, Any]:
        """What decides the set's count."""
        rows = self._images.table().filter(pc.field("source") == name)
        shown = self._shown[name]
        of_shown = list(dict.fromkeys(row["eval_id"] for row in shown))
        places = {image: number for number, image in enumerate(of_shown)}
        is_apart = pc.is_in(rows.column("eval_id"), value_set=pa.array(of_shown, pa.string()))
        others = rows.filter(pc.invert(is_apart))
        now, near = np.zeros(0, np.bool_), np.zeros(0, np.int64)
        if others.num_rows:
            now, near = others.column("now").to_numpy(), others.column("near").to_numpy()
        histogram = np.bincount(near + 1, minlength=_PDQ_BITS + 3)
        nothing = {"now": False, "near": _PDQ_BITS + 1}
        apart = {row["eval_id"]: row for row in rows.filter(is_apart).to_pylist()}
        told = [apart.get(image, nothing) for image in of_shown]
        return {
            "now": int(now.sum()),
            "within": histogram.cumsum()[1 : _PDQ_BITS + 2].tolist(),
            "images": [[row["now"], row["near"]] for row in told],
            "pairs": [
                [row["pair_id"], row["eval_id"], places[row["eval_id"]], *[row[c] for c in _SHOWN]]
                for row in shown
            ],
        }

    def _are_shown(self, rows: pa.Table) -> NDArray[np.bool_]:
        found = pc.is_in(rows.column("pair_id"), value_set=self._pair_ids).to_numpy()
        is_shown: NDArray[np.bool_] = found.astype(np.bool_)
        places = np.flatnonzero(is_shown)
        named = rows.select(["pair_id", "source", "eval_id"]).take(pa.array(places))
        for place, row in zip(places.tolist(), named.to_pylist(), strict=True):
            is_shown[place] = tuple(row.values()) in self._keys
        return is_shown
