"""Training: what the benchmarks of the trainer have in common: drawn batches, and steps of ours.

In names of tensors: B batch, L tokens.
"""

import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.captions import real
from pipeline import tokenizer
from pipeline.settings import TrainSettings
from pipeline.trainer.architectures import architecture
from pipeline.trainer.checkpoint import State
from pipeline.trainer.model import CLIP
from pipeline.trainer.parallel import Ranks
from pipeline.trainer.samples import Batch, Samples
from pipeline.trainer.starting import begun
from pipeline.trainer.step import Learner

VOCABULARY = 49_408
_CLIP = "bpe_simple_vocab_16e6.txt.gz"
_RATE = 1e-5
_SHARES = (*range(0, 96, 5), 96, 97, 98, 99, 100)
_LENGTHS = (
    *(3, 6, 7, 7, 8, 9, 10, 10, 11, 12, 13, 14, 15, 16, 17, 18, 20, 23, 27, 34),
    *(36, 40, 48, 63, 77),
)
"""Percentiles of the tokens of a caption, start and end among them, in OpenAI's vocabulary:
alt-texts of the web, 9,808 of LAION-400M (img2dataset's tests/test_files/test_10000.parquet)."""

Lengths = npt.NDArray[np.int64]


def lengths(count: int, seed: int, context: int = 77) -> Lengths:
    """Of so many captions of the web."""
    shares = np.random.default_rng(seed).uniform(0, 100, count)
    return np.minimum(np.rint(np.interp(shares, _SHARES, _LENGTHS)).astype(np.int64), context)


def lengths_of(data: Path, count: int, seed: int, context: int = 77) -> Lengths:
    """Of so many of the captions in `data`/captions, in OpenAI's vocabulary, which lies there."""
    cutter = tokenizer.load(next(data.rglob(_CLIP)), TrainSettings().merges)
    texts = real(data)
    chosen = np.random.default_rng(seed).choice(len(texts), count)
    told = [min(len(cutter.encode(texts[number])) + 2, context) for number in chosen]
    return np.array(told, np.int64)


def drawn(model: str, lengths_B: Lengths, vocabulary: int, *, padded: bool = False) -> Batch:
    """Noise and random words; texts as long as told, or with `padded` as long as the context."""
    arch = architecture(model)
    chance = np.random.default_rng(0)
    rows, side = len(lengths_B), arch.resolution
    tokens_BL = chance.integers(0, vocabulary - 2, (rows, arch.context))
    tokens_BL[np.arange(arch.context) >= lengths_B[:, None]] = 0
    tokens_BL[:, 0] = vocabulary - 2
    tokens_BL[np.arange(rows), lengths_B - 1] = vocabulary - 1
    longest = arch.context if padded else min(arch.context, -(-int(lengths_B.max()) // 8) * 8)
    return Batch(
        step=0,
        image_BHWC=torch.from_numpy(chance.integers(0, 256, (rows, side, side, 3), np.uint8)),
        tokens_BL=torch.from_numpy(tokens_BL[:, :longest]),
        # What is said to be text is computed.
        lengths_B=np.full_like(lengths_B, arch.context) if padded else lengths_B,
        skipped=[],
        numbers=np.arange(rows),
        # Nobody asks for the names of what was drawn.
        samples=cast(Samples, None),
    )


class Ours:
    """A training as `wit train` begins it, to be taken through one step after another."""

    def __init__(
        self, settings: TrainSettings, vocabulary: int, folder: Path, ranks: Ranks
    ) -> None:
        fresh = State(0, settings.model, vocabulary, "", 0, "", {}, math.nan, {})
        rows = settings.batch_size
        self._begun = begun(folder, fresh, settings, rows, ranks, print)
        self._settings, self._ranks = settings, ranks
        self._learners: dict[str, Learner] = {}

    @property
    def clip(self) -> CLIP:
        return self._begun.clip

    def step(self, batch: Batch, **changes: Any) -> torch.Tensor:
        """Learn from `batch`, with some settings other than it began with; the loss, which is
        still on the device."""
        settings = self._settings.model_copy(update=changes)
        model, clip, optimizer, _, half = self._begun
        clip.spare(
            pool_last_block=settings.pool_last_block,
            gradient_checkpointing=settings.gradient_checkpointing,
        )
        key = repr(changes)
        if key not in self._learners:
            learner = Learner(model, clip, optimizer, settings, self._ranks, half=half)
            self._learners[key] = learner
        return self._learners[key](batch, _RATE, is_asked=False)[0]
