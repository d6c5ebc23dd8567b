"""Drawn shapes and what is said of them: 64 classes, of which eight are never learned from."""

from itertools import product
from pathlib import Path

import drawings
import pytest
import written

from jobs.progress import Progress
from pipeline.settings import EvalSet

_LEARNED_FROM, _HELD_OUT = 160, 12
"""Drawings of a class."""


@pytest.mark.learning
def test_shapes_are_named_and_so_are_those_in_a_colour_never_seen_on_them(tmp_path: Path) -> None:
    seen = [kind for kind in drawings.CLASSES if kind not in drawings.UNSEEN]
    pairs = [
        drawings.pair(*kind, f"learned {number}")
        for number, kind in product(range(_LEARNED_FROM), seen)
    ]
    images = [
        (" ".join(kind), drawings.pair(*kind, f"held out {number}")[0])
        for kind, number in product((*seen, *drawings.UNSEEN), range(_HELD_OUT))
    ]
    names = written.write_images(tmp_path / "shapes", images)
    templates = ["a photo of a {}.", "a drawing of a {}.", "a {}."]
    evalset = EvalSet(name="shapes", path=str(tmp_path / "shapes"), templates=templates)
    losses, scores = written.learned(
        tmp_path / "run",
        pairs,
        evalset,
        # The audit's verdict tells apart what the corpus holds: here, the like of it.
        overlaps=names[: len(seen) * _HELD_OUT],
        model="tiny-RN",
        merges=500,
        batch_size=128,
        epochs=8.0,
        warmup_steps=30,
        log_every_steps=28,
    )
    told, unseen = scores["all"], scores["clean"]
    line = "of 64 classes: {:.1%}, of pairs of colour and shape never seen: {:.1%}"
    Progress().say(line.format(told["accuracy"], unseen["accuracy"]))
    assert (told["images"], unseen["images"]) == (768, 96)
    assert told["accuracy"] >= 0.9
    # Chance is 1 of 64.
    assert unseen["low"] > 0.25
    assert losses[-1] < 0.6 * losses[0]
