"""Filling: the rows of a batch, from the samples that stand there.

The same code runs in the trainer's own process and in its workers.
"""

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.decoding import Undecodable
from pipeline.errors import BadInput
from pipeline.settings import LoaderSettings
from pipeline.tokenizer import Tokenizer
from pipeline.trainer.index import Index, Shard
from pipeline.trainer.order import Order
from pipeline.trainer.pixels import random_square
from pipeline.trainer.reading import Reader, Unreadable
from pipeline.trainer.ring import Shape, Slot
from pipeline.trainer.stores import open_store

_MAX_ATTEMPTS = 100
"""Samples in a row that cannot be read; more of them are no accident."""


class Skipped(NamedTuple):
    """A sample that could not be learned from; another stood in its place."""

    pair_id: str
    reason: str


@dataclass(frozen=True)
class Job:
    """All that a worker must know to fill the rows of any batch."""

    where: str
    shards: tuple[Shard, ...]
    is_walked: bool
    loader: LoaderSettings
    order: Order
    merges: list[tuple[str, str]]
    shape: Shape

    def packed(self) -> bytes:
        return pickle.dumps(self, protocol=pickle.HIGHEST_PROTOCOL)


class Filler:
    """Fills rows of slots."""

    def __init__(
        self, reader: Reader, order: Order, tokenizer: Tokenizer, loader: LoaderSettings
    ) -> None:
        self._reader, self._order, self._tokenizer = reader, order, tokenizer
        self._refuses = loader.damaged == "refuse"

    @classmethod
    def of(cls, job: Job) -> "Filler":
        """With its own store and tokenizer, and the index that the trainer has."""
        store = open_store(job.where, job.loader)
        index = Index(store, job.loader, job.shards, is_walked=job.is_walked)
        return cls(Reader(store, index), job.order, Tokenizer(job.merges), job.loader)

    def fill(self, slot: Slot, rows: Sequence[int]) -> list[Skipped]:
        """Fill `rows` of a slot whose first four arrays say what belongs there.

        Raises BadInput where a sample cannot be read and none may be skipped, or too many in a row.
        """
        skipped: list[Skipped] = []
        self._reader.expect(slot.sample[rows[0] : rows[-1] + 1])
        for row in rows:
            skipped += self._fill(slot, row)
        return skipped

    def _fill(self, slot: Slot, row: int) -> list[Skipped]:
        place = int(slot.epoch[row]), int(slot.position[row])
        number, crop = int(slot.sample[row]), float(slot.crop[row])
        side = slot.image_BHWC.shape[1]
        skipped: list[Skipped] = []
        while len(skipped) < _MAX_ATTEMPTS:
            try:
                sample = self._reader.read(number)
                random_square(sample.image, side, crop, slot.image_BHWC[row])
            except (Unreadable, Undecodable) as error:
                skipped.append(Skipped(self._reader.key(number), error.reason))
                if self._refuses:
                    raise BadInput(
                        f"sample {skipped[0].pair_id} cannot be read ({error}): mend its shard, or "
                        'set loader.damaged = "skip"'
                    ) from None
                number = self._order.another(*place, len(skipped))
                continue
            self._tokenizer.encode_into(slot.tokens_BL[row], sample.caption)
            slot.used[row] = number
            return skipped
        raise BadInput(
            f"{_MAX_ATTEMPTS} samples in a row cannot be read, the first of pair "
            f"{skipped[0].pair_id} ({skipped[0].reason}): these shards hold no images with "
            "captions; `wit verify` tells what is wrong with them"
        )
