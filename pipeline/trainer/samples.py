"""Samples: shards -> batches.

A batch is a function of the seed and the step alone: no number of threads and no earlier stop
changes a byte of it. In names of tensors: B batch, H height, W width, C channels, L tokens.
"""

import mmap
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.errors import BadInput
from pipeline.trainer import order
from pipeline.trainer.pixels import Undecodable, random_square
from pipeline.trainer.tars import listed, places_in
from pipeline.trainer.tokenizer import Tokenizer

_BATCHES_AHEAD = 2
_MAX_OPEN_SHARDS = 512
_MAX_UNDECODABLE = 100
"""Unreadable images in a row; more of them are no accident."""
_TEXT_STEP = 8
"""Texts of a batch are cut to its longest, rounded up to this: padding costs and means nothing."""


@dataclass(frozen=True)
class Sample:
    """A pair with its image, still encoded."""

    pair_id: str
    image: bytes
    caption: str


class Samples:
    """The samples of a folder of shards, by number."""

    def __init__(self, folder: Path) -> None:
        self._mapped = lru_cache(maxsize=_MAX_OPEN_SHARDS)(_mapped)
        self._shards: list[Path] = []
        self._keys: list[str] = []
        places: list[tuple[int, int, int, int, int]] = []
        for path, promised in listed(folder):
            before = len(places)
            for place in places_in(_mapped(path), path):
                self._keys.append(place.key)
                places.append((len(self._shards), *place.image, *place.caption))
            found = len(places) - before
            if promised is not None and found != promised:
                raise BadInput(
                    f"{path} holds {found:,} samples, but index.json promises {promised:,}: "
                    "run `wit shard` again"
                )
            self._shards.append(path)
        self._places = np.array(places, dtype=np.int64).reshape(-1, 5)

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: int) -> Sample:
        shard, image, image_bytes, caption, caption_bytes = self._places[index].tolist()
        tar = self._mapped(self._shards[shard])
        return Sample(
            pair_id=self._keys[index],
            image=tar[image : image + image_bytes],
            caption=tar[caption : caption + caption_bytes].decode("utf-8", "replace"),
        )


def _mapped(path: Path) -> mmap.mmap:
    if not path.stat().st_size:
        raise BadInput(f"{path} is empty: copy it again, or run `wit shard` again")
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


@dataclass(frozen=True)
class Batch:
    """What one step learns from."""

    step: int
    pair_ids: list[str]
    image_BHWC: Tensor
    """Bytes: they are normalised where the model is."""
    tokens_BL: Tensor
    undecodable: list[str]
    """Pairs whose image could not be read; in each one's place stands the next that can."""


@dataclass(frozen=True)
class Batches:
    """Everything that a batch depends on but its step."""

    samples: Samples
    tokenizer: Tokenizer
    batch_size: int
    side: int
    context: int
    seed: int

    def __post_init__(self) -> None:
        if self.batch_size > len(self.samples):
            raise BadInput(
                f"train.batch_size: {len(self.samples):,} samples do not fill one batch of "
                f"{self.batch_size:,}: lower train.batch_size to {len(self.samples):,} or less"
            )

    @property
    def per_epoch(self) -> int:
        return len(self.samples) // self.batch_size

    def at(self, step: int) -> Batch:
        """The batch of `step`, from 0."""
        draft = _Draft(self, step)
        draft.fill(range(self.batch_size))
        return draft.batch()

    def between(self, first: int, last: int, workers: int) -> Generator[Batch]:
        """The batches of steps `first` to `last`, without it, made ahead by `workers` threads.

        Threads are enough: images are decoded and resized outside the interpreter's lock.
        """
        if not workers:
            yield from map(self.at, range(first, last))
            return
        ahead: deque[tuple[_Draft, list[Future[None]]]] = deque()
        rows, part = range(self.batch_size), -(-self.batch_size // (4 * workers))
        with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
            try:
                for step in range(first, last):
                    draft = _Draft(self, step)
                    parts = [rows[i : i + part] for i in range(0, len(rows), part)]
                    ahead.append((draft, [pool.submit(draft.fill, each) for each in parts]))
                    if len(ahead) > _BATCHES_AHEAD:
                        yield _finished(*ahead.popleft())
                while ahead:
                    yield _finished(*ahead.popleft())
            finally:
                pool.shutdown(cancel_futures=True)


def _finished(draft: "_Draft", parts: list[Future[None]]) -> Batch:
    for part in parts:
        part.result()
    return draft.batch()


class _Draft:
    """A batch in the making; its rows are filled in any order."""

    def __init__(self, batches: Batches, step: int) -> None:
        size, side = batches.batch_size, batches.side
        self._batches, self._step = batches, step
        total, seed = len(batches.samples), batches.seed
        self._epoch, self._indices = order.batch_at(step, size, total, seed)
        self._image: npt.NDArray[np.uint8] = np.empty((size, side, side, 3), dtype=np.uint8)
        self._pair_ids = [""] * size
        self._undecodable: list[list[str]] = [[] for _ in range(size)]
        self._tokens = np.empty((size, batches.context), dtype=np.int64)

    def fill(self, rows: range) -> None:
        for row in rows:
            self._fill(row, int(self._indices[row]))

    def _fill(self, row: int, index: int) -> None:
        batches, samples = self._batches, self._batches.samples
        draw = order.uniform(batches.seed, self._epoch, index)
        for further in range(_MAX_UNDECODABLE):
            sample = samples[(index + further) % len(samples)]
            try:
                self._image[row] = random_square(sample.image, batches.side, draw)
            except Undecodable:
                self._undecodable[row].append(sample.pair_id)
                continue
            self._pair_ids[row] = sample.pair_id
            self._tokens[row] = batches.tokenizer.encode_batch([sample.caption], batches.context)
            return
        raise BadInput(
            f"{_MAX_UNDECODABLE} images in a row cannot be decoded, the first of pair "
            f"{self._undecodable[row][0]}: these shards hold no images"
        )

    def batch(self) -> Batch:
        ends = (self._tokens == self._batches.tokenizer.end).argmax(axis=1)
        longest = -(-(int(ends.max()) + 1) // _TEXT_STEP) * _TEXT_STEP
        return Batch(
            step=self._step,
            pair_ids=self._pair_ids,
            image_BHWC=torch.from_numpy(self._image),
            tokens_BL=torch.from_numpy(self._tokens[:, :longest]),
            undecodable=[pair_id for row in self._undecodable for pair_id in row],
        )
