"""Evaluation sets, scored by a small model with weights of chance."""

import pytest
import torch

from pipeline.evaluate.encode import Encoder
from pipeline.evaluate.score import score
from pipeline.settings import EvalSet
from pipeline.tokenizer import Tokenizer
from pipeline.trainer.architectures import ARCHITECTURES, Architecture
from pipeline.trainer.model import build

CPU = torch.device("cpu")


def small_model():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, "tiny", Architecture(16, 32, (1,), 64, 16, 64, 1, 32))
        return build("tiny", 514, seed=0).eval()


def scored(path, overlapping=frozenset(), *, settings, model=None, **changes):
    """What `score` tells of the set at `path`, which has a split for training, and of `model`."""
    evalset = EvalSet(**{"name": "things", "path": str(path), "train_split": "train"} | changes)
    encoder = Encoder(model or small_model(), 32, CPU, settings)
    return score(evalset, encoder, Tokenizer([]), overlapping)
