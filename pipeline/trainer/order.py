"""Order: which sample stands where, and every other draw of chance.

All of it is a function of content and seed, computed place by place: no table of an epoch is kept,
none is shuffled, and no version of a library can change it. Sizes: N samples, S shards, P places.

A place is a number from 0 on in the endless row of all epochs: the batch of step s holds the places
s * batch_size and on, whatever epoch they fall into.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.errors import BadInput

Indices = npt.NDArray[np.int64]

_ROUNDS = 6
_GOLDEN = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1
_MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_CROPS, _OTHERS, _SHARDS, _WINDOWS = range(4)
"""What a draw is for: each use has its own chance."""
_ATTEMPTS_EACH = 10
"""Samples of a window that are tried in place of another."""


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """splitmix64's finaliser: every bit of the input moves half the bits of the output."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(_MIX[0])
    values = (values ^ (values >> np.uint64(27))) * np.uint64(_MIX[1])
    return values ^ (values >> np.uint64(31))


def _key(*parts: int) -> int:
    key = 0
    for part in parts:
        key = (key + (part * 2 + 1) * _GOLDEN) & _MASK
        key = ((key ^ (key >> 30)) * _MIX[0]) & _MASK
        key = ((key ^ (key >> 27)) * _MIX[1]) & _MASK
        key ^= key >> 31
    return key


def permuted(positions: Indices, count: int, *parts: int) -> Indices:
    """What stands at `positions`: a permutation of range(count) that `parts` fix.

    A Feistel network permutes the next power of four; a result beyond the count is sent through
    again until it falls inside, which keeps it a permutation.
    """
    half = np.uint64(max(1, ((count - 1).bit_length() + 1) // 2))
    low = (np.uint64(1) << half) - np.uint64(1)
    keys = [np.uint64(_key(*parts, number)) for number in range(_ROUNDS)]
    out = positions.astype(np.uint64)
    open_places = np.arange(len(out))
    while len(open_places):
        left, right = out[open_places] >> half, out[open_places] & low
        for key in keys:
            left, right = right, left ^ (_mixed(right * np.uint64(_GOLDEN) + key) & low)
        out[open_places] = (left << half) | right
        open_places = open_places[out[open_places] >= count]
    return out.astype(np.int64)


class Row(NamedTuple):
    """What stands at consecutive places; arrays of P."""

    epoch: Indices
    position: Indices
    """The place within the epoch, before what stands there was put in order."""
    sample: Indices


class _Epoch(NamedTuple):
    """The order of shards in one epoch."""

    shards: Indices
    """S: the shards as they come."""
    ends: Indices
    """S + 1: the first position of each, and the end."""


@dataclass(frozen=True, eq=False)
class Order:
    """The order of a corpus.

    The shards of an epoch are put into an order of its own and cut into windows of at most
    `window` shards, as equal as can be; the samples of a window are mixed with one another. Only
    its shards must be at hand at a time. Where `window` is no less than S, any order can come.
    """

    begins: Indices
    """S + 1: the first sample of each shard, and N."""
    batch_size: int
    seed: int
    window: int
    _epochs: dict[int, _Epoch] = field(default_factory=dict, init=False, repr=False)
    """Those asked for last: every batch asks again."""

    def __post_init__(self) -> None:
        if self.batch_size > len(self):
            raise BadInput(
                f"train.batch_size: {len(self):,} samples do not fill one batch of "
                f"{self.batch_size:,}: lower train.batch_size to {len(self):,} or less"
            )

    def __len__(self) -> int:
        """N."""
        return int(self.begins[-1])

    def row(self, first: int, count: int) -> Row:
        """What stands at the places `first` and on. `count` is at most the batch's size.

        Every sample stands in each epoch once. A batch that begins in one epoch and ends in the
        next holds no sample twice, where the corpus fills two batches: the next epoch begins with
        samples that its batch does not have yet.
        """
        epoch, position = np.divmod(np.arange(first, first + count, dtype=np.int64), len(self))
        sample = np.empty(count, dtype=np.int64)
        for number in np.unique(epoch).tolist():
            at = epoch == number
            sample[at] = self._at(position[at], number)
        return Row(epoch, position, sample)

    def another(self, epoch: int, position: int, attempt: int) -> int:
        """A sample in place of one that cannot be read: any of the same window, for the first few
        attempts, for in a narrow one all may be lost; then of the next."""
        begin, end = self._window_of(epoch, position)
        for _ in range((attempt - 1) // _ATTEMPTS_EACH):
            begin, end = self._window_of(epoch, end % len(self))
        drawn = begin + _key(self.seed, _OTHERS, epoch, position, attempt) % (end - begin)
        return int(self._mixed(np.array([drawn], dtype=np.int64), epoch)[0])

    def crops(self, row: Row) -> npt.NDArray[np.float64]:
        """P draws from [0, 1): where each sample is cropped, another place in each epoch."""
        keys = np.array([_key(self.seed, _CROPS, int(e)) for e in np.unique(row.epoch)], np.uint64)
        start = keys[np.searchsorted(np.unique(row.epoch), row.epoch)]
        drawn = _mixed(start + row.sample.astype(np.uint64) * np.uint64(_GOLDEN))
        return (drawn >> np.uint64(11)).astype(np.float64) / 2**53

    def shards_from(self, place: int) -> list[list[int]]:
        """The shards of the window that holds `place`, and those of the next one."""
        epoch, position = divmod(place, len(self))
        found = []
        for _ in range(2):
            shards, ends = self._epoch(epoch)
            first, last = self._shards_of(int(self._number(ends, np.array([position]))[0]))
            found.append(shards[first:last].tolist())
            position = int(ends[last])
            if position == len(self):
                epoch, position = epoch + 1, 0
        return found

    def _at(self, position: Indices, epoch: int) -> Indices:
        """The samples of one epoch at `position`."""
        rest = epoch * len(self) % self.batch_size
        sample = self._mixed(position, epoch)
        is_begun = rest and len(self) >= 2 * self.batch_size
        in_head = position < self.batch_size
        if is_begun and in_head.any():
            # The last batch of the epoch before has `rest` samples and takes the others from here.
            last = np.arange(len(self) - rest, len(self), dtype=np.int64)
            taken = self._mixed(last, epoch - 1)
            head = self._mixed(np.arange(self.batch_size, dtype=np.int64), epoch)
            head = head[np.argsort(np.isin(head, taken), kind="stable")]
            sample[in_head] = head[position[in_head]]
        return sample

    def _mixed(self, position: Indices, epoch: int) -> Indices:
        shards, ends = self._epoch(epoch)
        out = np.empty(len(position), dtype=np.int64)
        windows = self._number(ends, position)
        for window in np.unique(windows).tolist():
            at = windows == window
            begin, end = ends[list(self._shards_of(window))].tolist()
            keys = (self.seed, _WINDOWS, epoch, window)
            place = begin + permuted(position[at] - begin, end - begin, *keys)
            shard = np.searchsorted(ends, place, side="right") - 1
            out[at] = self.begins[shards[shard]] + place - ends[shard]
        return out

    def _window_of(self, epoch: int, position: int) -> tuple[int, int]:
        """The first position of the window that holds `position`, and its end."""
        _, ends = self._epoch(epoch)
        first, last = self._shards_of(int(self._number(ends, np.array([position]))[0]))
        return int(ends[first]), int(ends[last])

    @property
    def _windows(self) -> int:
        return -(-(len(self.begins) - 1) // self.window)

    def _number(self, ends: Indices, position: Indices) -> Indices:
        """The windows that hold `position`."""
        place = np.searchsorted(ends, position, side="right")
        return (place * self._windows - 1) // (len(self.begins) - 1)

    def _shards_of(self, window: int) -> tuple[int, int]:
        """The places of a window's first shard in the epoch, and of the one behind its last."""
        count = len(self.begins) - 1
        return window * count // self._windows, (window + 1) * count // self._windows

    def _epoch(self, epoch: int) -> _Epoch:
        found = self._epochs.get(epoch)
        if found is None:
            count = len(self.begins) - 1
            places = np.arange(count, dtype=np.int64)
            shards = permuted(places, count, self.seed, _SHARDS, epoch)
            sizes = np.diff(self.begins)[shards]
            found = _Epoch(shards, np.concatenate(([0], np.cumsum(sizes))))
            for old in [number for number in self._epochs if number < epoch - 1]:
                del self._epochs[old]
            self._epochs[epoch] = found
        return found
