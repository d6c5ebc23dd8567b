"""Samples: shards -> batches.

A batch is a function of the shards, the seed and the step alone: no number of workers or ranks and
no earlier stop changes a byte of it. In names of tensors: B batch, H height, W width, C channels,
L tokens.
"""

import weakref
from collections import Counter, deque
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import BadInput
from pipeline.settings import LoaderSettings
from pipeline.tokenizer import Tokenizer
from pipeline.trainer.feeding import pinned
from pipeline.trainer.filling import Filler, Job, Skipped
from pipeline.trainer.index import open_index
from pipeline.trainer.order import Indices, Order
from pipeline.trainer.reading import Reader, Sample
from pipeline.trainer.remote import RemoteStore
from pipeline.trainer.ring import Ring, Shape, Slot, slot_of
from pipeline.trainer.stores import open_store
from pipeline.trainer.workers import Workers

_HELD = 2
"""Batches in shared memory that a loop may hold at a time: the one it learns from, and the one
that it still names while it asks for the next. Of further ones it gets copies."""
_TEXT_STEP = 8
"""Texts of a batch are cut to its longest, rounded up to this: padding costs and means nothing."""


class Samples:
    """The samples of a folder of shards, by number.

    `where` is a folder, or an address that fsspec knows. `tell` hears of what takes time and of
    damage that is found. Raises BadInput where there are no shards.
    """

    def __init__(
        self,
        where: str | Path,
        loader: LoaderSettings | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self.where = str(where)
        self.loader = loader or LoaderSettings()
        self.store = open_store(where, self.loader)
        self.index = open_index(self.store, self.loader, tell)
        self._reader = Reader(self.store, self.index)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, number: int) -> Sample:
        """Raises reading.Unreadable."""
        return self._reader.read(number)

    def key(self, number: int) -> str:
        """The pair_id of a sample."""
        return self._reader.key(number)

    @property
    def lost(self) -> Counter[str]:
        """What of the shards cannot be learned from, by reason; with an index.json, of those shards
        that this process has read from."""
        return self.index.lost

    @property
    def reader(self) -> Reader:
        return self._reader

    def close(self) -> None:
        self._reader.close()
        self.store.close()


@dataclass(frozen=True, eq=False)
class Batch:
    """What one step learns from."""

    step: int
    image_BHWC: Tensor
    """Bytes: they are normalised where the model is. Its memory goes back to the ring when
    nothing refers to it any more."""
    tokens_BL: Tensor
    lengths_B: Indices
    """Tokens of each text, up to and with the end."""
    skipped: list[Skipped]
    """Samples that could not be read; in each one's place stands another."""
    numbers: Indices
    """B: which samples these are."""
    samples: Samples = field(repr=False)

    @cached_property
    def pair_ids(self) -> list[str]:
        return [self.samples.key(number) for number in self.numbers.tolist()]


@dataclass(frozen=True)
class Batches:
    """Everything that a batch depends on but its step.

    With `ranks` processes that train together, each has its own part of every batch: that of
    `rank`, of batch_size / ranks rows. All parts together are the same for any number of ranks.
    """

    samples: Samples
    tokenizer: Tokenizer
    batch_size: int
    side: int
    context: int
    seed: int
    rank: int = 0
    ranks: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.ranks:
            raise BadInput(
                f"rank {self.rank:,} of {self.ranks:,} processes: they are numbered from 0 to "
                f"{self.ranks - 1:,}"
            )
        if self.batch_size % self.ranks:
            raise BadInput(
                f"train.batch_size: {self.batch_size:,} rows cannot be shared evenly by "
                f"{self.ranks:,} processes: take a multiple of {self.ranks:,}"
            )
        _ = self.order  # it refuses what cannot be
        self._check_cache()

    @cached_property
    def order(self) -> Order:
        window = self.samples.loader.window
        return Order(self.samples.index.begins, self.batch_size, self.seed, window)

    @property
    def rows(self) -> int:
        """Of this rank."""
        return self.batch_size // self.ranks

    def at(self, step: int) -> Batch:
        """The batch of `step`, from 0, made in this process."""
        slot = slot_of(self._shape(1))
        self._assign(slot, step)
        filler = Filler(self.samples.reader, self.order, self.tokenizer, self.samples.loader)
        return self._batch(step, slot, filler.fill(slot, range(self.rows)))

    def between(
        self, first: int, last: int, workers: int | None = None, *, pin: bool = False
    ) -> Generator[Batch]:
        """The batches of steps `first` to `last`, without it, made ahead by `workers` processes.

        `workers` is that of the samples' settings when not given. `pin` tells CUDA of the shared
        memory, so that copies to the device need not wait. Raises BadInput where samples cannot
        be read and none may be skipped, and WorkerDied.
        """
        count = self.samples.loader.workers if workers is None else workers
        if first >= last:
            return
        if count < 1:
            yield from map(self.at, range(first, last))
            return
        free = deque(range(self.samples.loader.batches_ahead + _HELD))
        ring = Ring(self._shape(len(free)))
        with ExitStack() as open_things:
            open_things.callback(ring.close)
            if pin:
                open_things.enter_context(pinned(ring.memory))
            working = open_things.enter_context(closing(Workers(count, self._job(ring), ring)))
            asked: deque[int] = deque()
            held: set[int] = set()
            ahead = first
            for step in range(first, last):
                while free and ahead < last:
                    number = free.popleft()
                    self._assign(ring.slot(number), ahead)
                    working.ask(number)
                    asked.append(number)
                    ahead += 1
                number = asked.popleft()
                skipped = working.wait(number)
                slot = ring.slot(number)
                if len(held) < _HELD:
                    held.add(number)
                    give_back = partial(_give_back, number, held, free)
                    weakref.finalize(slot.image_BHWC, give_back).atexit = False
                else:
                    slot = replace(slot, image_BHWC=slot.image_BHWC.copy())
                    free.append(number)
                yield self._batch(step, slot, skipped)
                del slot

    def _check_cache(self) -> None:
        """Raises BadInput where the cache would give up shards that are still read from."""
        samples = self.samples
        sizes = [shard.bytes for shard in samples.index.shards]
        room, window = samples.loader.cache_bytes, samples.loader.window
        # While a window is read the next one is fetched.
        needed = min(sum(sizes), 2 * min(window, len(sizes)) * max(sizes))
        if isinstance(samples.store, RemoteStore) and needed > room:
            fitting = room // (2 * max(sizes))
            lower = f", or lower loader.window to {fitting:,}" if fitting else ""
            raise BadInput(
                f"loader.cache_bytes: the shards that are mixed at a time (loader.window: "
                f"{window:,}) and as many that come next take {needed:,} bytes, and the cache "
                f"{room:,}: raise it to {needed:,}{lower}"
            )

    def _job(self, ring: Ring) -> Job:
        samples = self.samples
        return Job(
            where=samples.where,
            shards=samples.index.shards,
            is_walked=samples.index.is_walked,
            loader=samples.loader,
            order=self.order,
            merges=self.tokenizer.merges,
            shape=ring.shape,
        )

    def _shape(self, slots: int) -> Shape:
        return Shape(slots, self.rows, self.side, self.context)

    def _assign(self, slot: Slot, step: int) -> None:
        """Write into `slot` what belongs there."""
        place = step * self.batch_size + self.rank * self.rows
        row = self.order.row(place, self.rows)
        slot.epoch[:], slot.position[:], slot.sample[:] = row
        slot.crop[:] = self.order.crops(row)
        self._fetch_ahead(place)

    def _fetch_ahead(self, place: int) -> None:
        """Have the store fetch the shards of this window and the next."""
        shards = self.samples.index.shards
        windows = self.order.shards_from(place)
        told = [shards[number] for window in windows for number in window]
        self.samples.store.ahead([(shard.name, shard.bytes, shard.sha256) for shard in told])

    def _batch(self, step: int, slot: Slot, skipped: list[Skipped]) -> Batch:
        tokens = slot.tokens_BL
        lengths = (tokens == self.tokenizer.end).argmax(axis=1) + 1
        longest = -(-int(lengths.max()) // _TEXT_STEP) * _TEXT_STEP
        return Batch(
            step=step,
            image_BHWC=torch.from_numpy(slot.image_BHWC),
            tokens_BL=torch.from_numpy(tokens[:, :longest].astype(np.int64)),
            lengths_B=lengths,
            skipped=skipped,
            numbers=slot.used.copy(),
            samples=self.samples,
        )


def _give_back(number: int, held: set[int], free: deque[int]) -> None:
    held.discard(number)
    free.append(number)
