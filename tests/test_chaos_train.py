"""A few kills of a training, as `make test-chaos-train` does many."""

import random

from tests.chaos import train


def test_a_training_that_is_killed_twice_ends_in_the_same_bits(tmp_path):
    epochs = 4.0
    seconds = train.undisturbed(tmp_path, epochs)
    told = train.disturbed(tmp_path, seconds, random.Random(3), 2, 0, epochs)
    assert told.kills
    assert told.differences == []
