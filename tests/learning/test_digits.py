"""Handwritten digits and what is said of them: from shards to a zero-shot classifier."""

import io
import random
from pathlib import Path

import numpy as np
import pytest
import written
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from pipeline.settings import EvalSet

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_PHRASES = (
    "a photo of the number {n}",
    "the digit {n} written by hand",
    "{n}",
    "handwritten {n} on {g} paper",
    "somebody wrote a {n} with a {p}",
    "a scan of the figure {n}, {g} ink",
    "page {r}: the number {n}",
    "how to write a {n} in {r} minutes",
    "{N} | free {p} clip art",
    "my {p} and a {g} {n}",
)
_GROUNDS = ("white", "grey", "old", "yellow", "thin")
_PENS = ("pen", "pencil", "brush", "marker")
_TEMPLATES = ["a photo of the number {}.", "the digit {} written by hand.", "a {}."]
_SIDE = 64


def _caption(digit: int, chance: random.Random) -> str:
    """One of the things that pages say, with words of what is not to be seen."""
    return chance.choice(_PHRASES).format(
        n=NAMES[digit],
        N=NAMES[digit].capitalize(),
        g=chance.choice(_GROUNDS),
        p=chance.choice(_PENS),
        r=chance.randint(11, 99),
    )


def _jpeg(pixels: np.ndarray) -> bytes:
    """A digit of 8 x 8 pixels as a picture is: enlarged, black on white."""
    light = Image.fromarray((255 - pixels * 255 / 16).astype(np.uint8))
    file = io.BytesIO()
    light.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC).convert("RGB").save(file, "JPEG")
    return file.getvalue()


@pytest.fixture
def digits(tmp_path: Path) -> tuple[list[written.Pair], EvalSet]:
    """Pairs to learn from, and as a folder of images a quarter of the digits that is held out."""
    found = load_digits()
    images = [_jpeg(pixels) for pixels in found.images]
    labels = found.target.tolist()
    split = train_test_split(images, labels, test_size=0.25, random_state=0, stratify=labels)
    learn, held_out, learn_labels, held_out_labels = split
    chance = random.Random(0)
    pairs = [
        (image, _caption(digit, chance)) for image, digit in zip(learn, learn_labels, strict=True)
    ]
    names = [NAMES[digit] for digit in held_out_labels]
    written.write_images(tmp_path / "digits", zip(names, held_out, strict=True))
    return pairs, EvalSet(name="digits", path=str(tmp_path / "digits"), templates=_TEMPLATES)


def test_digits_are_told_apart_by_what_their_captions_said(
    digits: tuple[list[written.Pair], EvalSet], tmp_path: Path
) -> None:
    pairs, evalset = digits
    recipe = {"model": "tiny-RN", "merges": 300, "batch_size": 32, "log_every_steps": 21}
    # One step that moves nothing: the weights that a training begins with.
    _, before = written.learned(
        tmp_path / "before", pairs, evalset, epochs=0.01, learning_rate=1e-12, **recipe
    )
    losses, after = written.learned(
        tmp_path / "run",
        pairs,
        evalset,
        epochs=6.0,
        learning_rate=1e-3,
        warmup_steps=20,
        **recipe,
    )
    chance, learned = (scores["all"] for scores in (before, after))
    assert chance["images"] == learned["images"] == 450
    assert chance["accuracy"] < 0.25
    assert learned["accuracy"] >= 0.95
    assert losses[-1] < 0.7 * losses[0]
