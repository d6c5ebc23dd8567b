"""Index: all shards of a store, numbered, and where each sample of them lies.

reads   index.json, or of somebody else's shards every header, once; NAME.places
writes  among the store's notes: _index.json and NAME.places, where they are not beside the shards

The numbering is a promise: the order of batches depends on it. A shard has as many numbers as
index.json says (or as the first walk found), be it damaged, changed or gone today. What cannot be
had of it is met when it is read: `places` raises Unavailable, or has fewer rows than the shard has
numbers, and a place beyond them is a sample that cannot be read, as one whose image is broken.
"""

import hashlib
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from functools import cached_property

import msgspec
import numpy as np
import numpy.typing as npt

from pipeline.errors import BadInput
from pipeline.places import Places
from pipeline.settings import LoaderSettings
from pipeline.trainer.found import Shard as Shard
from pipeline.trainer.found import places_of
from pipeline.trainer.listed import foreign, listed
from pipeline.trainer.stores import Store

Numbers = npt.NDArray[np.int64]
_MAX_KEPT = 1 << 15
"""Shards whose places are kept mapped: some 5 kB each, and half as many maps as Linux allows."""
_MISSING = "a sample that index.json promises and its shard lacks"
_BEYOND = "a sample beyond those that index.json promises"


class Index:
    """The samples of a store, by number.

    Another process makes the same index from `shards`, `is_walked` and a store of its own, without
    a look at the files.
    """

    def __init__(
        self,
        store: Store,
        loader: LoaderSettings,
        shards: Sequence[Shard],
        lost: Counter[str] | None = None,
        tell: Callable[[str], None] | None = None,
        *,
        is_walked: bool = False,
    ) -> None:
        self.store = store
        self.shards = tuple(shards)
        self.begins: Numbers = np.zeros(len(self.shards) + 1, dtype=np.int64)
        np.cumsum([shard.samples for shard in self.shards], out=self.begins[1:])
        self.lost: Counter[str] = Counter(lost)
        """What cannot be learned from, by reason: where the shards were walked all of it, and else
        that of the shards whose places were asked for."""
        self.is_walked = is_walked
        """Whether what is lost of every shard is known from the beginning."""
        self._refuse = loader.damaged == "refuse"
        self._tell = tell or (lambda _: None)
        self._is_counted = np.full(len(self.shards), is_walked)
        self._kept: OrderedDict[int, Places] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return int(self.begins[-1])

    @cached_property
    def digest(self) -> str:
        """sha256 of all that the order of batches depends on, and of what is told of the bytes."""
        return hashlib.sha256(msgspec.json.encode(self.shards)).hexdigest()

    def find(self, sample: int) -> tuple[int, int]:
        """The shard of a sample, and its place in it."""
        if not 0 <= sample < len(self):
            raise IndexError(f"sample {sample:,} of {len(self):,}")
        shard = int(self.begins.searchsorted(sample, side="right")) - 1
        return shard, sample - int(self.begins[shard])

    def find_many(self, samples: Numbers) -> tuple[Numbers, Numbers]:
        """The shards of samples, and their places in them. They must be in range."""
        shards = self.begins.searchsorted(samples, side="right") - 1
        return shards, samples - self.begins[shards]

    def places(self, shard: int) -> Places:
        """Where the samples of a shard lie; fewer than it has numbers, where it is damaged.

        Raises Unavailable where the shard cannot be had, BadInput where that is refused.
        """
        with self._lock:
            kept = self._kept.get(shard)
            if kept is not None:
                self._kept.move_to_end(shard)
                return kept
        told = self.shards[shard]
        found = places_of(self.store, told, self._tell, refuse=self._refuse)
        if self._refuse and len(found) < told.samples:
            raise BadInput(
                f"{self.store.where}/{told.name} holds {len(found):,} samples that can be learned "
                f"from, but its index promises {told.samples:,}: copy both again, or set "
                "loader.damaged = `skip`"
            )
        with self._lock:
            if not self._is_counted[shard]:
                self._is_counted[shard] = True
                self.lost.update(found.lost)
                self._count(_MISSING, told.samples - len(found))
                self._count(_BEYOND, len(found) - told.samples)
            self._kept[shard] = found
            if len(self._kept) > _MAX_KEPT:
                self._kept.popitem(last=False)
        return found

    def _count(self, reason: str, samples: int) -> None:
        if samples > 0:
            self.lost[reason] += samples


def open_index(
    store: Store, loader: LoaderSettings, tell: Callable[[str], None] | None = None
) -> Index:
    """The index of the shards in `store`: index.json's, or one of all its tars.

    `tell` is told of what takes time and of damage where it is first found, from several threads.
    Raises BadInput where there are no shards, or index.json is none.
    """
    promised = listed(store, tell)
    if promised is not None:
        return Index(store, loader, promised, tell=tell)
    shards, lost = foreign(store, loader, tell)
    return Index(store, loader, shards, lost, tell, is_walked=True)
