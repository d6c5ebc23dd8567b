"""Order: which sample stands where in an epoch, and every other draw of chance.

Both are functions of content and seed, computed one by one: no table of a whole epoch is kept,
none is shuffled, and no version of a library can change them.
"""

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]

_ROUNDS = 6
_GOLDEN = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """splitmix64's finaliser: every bit of the input moves half the bits of the output."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _key(*parts: int) -> np.uint64:
    key = np.zeros(1, dtype=np.uint64)
    for part in parts:
        key = _mixed(key + np.uint64((part * 2 + 1) * _GOLDEN & _MASK))
    return key[0]  # type: ignore[no-any-return]


def permuted(positions: Indices, samples: int, seed: int, epoch: int) -> Indices:
    """The samples that stand at `positions` of an epoch: a permutation of range(samples).

    A Feistel network permutes the next power of four; a result beyond the samples is sent through
    again until it falls inside, which keeps it a permutation.
    """
    half = np.uint64(max(1, ((samples - 1).bit_length() + 1) // 2))
    low = (np.uint64(1) << half) - np.uint64(1)
    keys = [_key(seed, epoch, number) for number in range(_ROUNDS)]
    out = positions.astype(np.uint64)
    open_places = np.arange(len(out))
    while len(open_places):
        left, right = out[open_places] >> half, out[open_places] & low
        for key in keys:
            left, right = right, left ^ (_mixed(right * np.uint64(_GOLDEN) + key) & low)
        out[open_places] = (left << half) | right
        open_places = open_places[out[open_places] >= samples]
    return out.astype(np.int64)


def batch_at(step: int, batch_size: int, samples: int, seed: int) -> tuple[int, Indices]:
    """The epoch of `step`, from 0, and the samples of its batch.

    An epoch has as many whole batches as the samples fill; the rest of it, which differs from
    epoch to epoch, is left out.
    """
    epoch, place = divmod(step, samples // batch_size)
    positions = np.arange(place * batch_size, (place + 1) * batch_size, dtype=np.int64)
    return epoch, permuted(positions, samples, seed, epoch)


def uniform(*parts: int) -> float:
    """A draw from [0, 1) fixed by `parts`."""
    return int(_key(*parts) >> np.uint64(11)) / 2**53
