"""Scores: zero-shot, linear probe, and what overlap does to both."""

import json

import numpy as np
import pytest
import torch
from trainer_shards import COLOURS, jpeg

from pipeline.errors import BadInput
from pipeline.evaluate import zeroshot
from pipeline.evaluate.accuracy import accuracy, by_overlap, mean_per_class_recall
from pipeline.evaluate.score import score
from pipeline.settings import EvalSet, EvaluateSettings
from pipeline.tokenizer import Tokenizer
from pipeline.trainer.architectures import ARCHITECTURES, Architecture
from pipeline.trainer.model import build

CPU = torch.device("cpu")


def right(*shares):
    """`right(3, 4)`: three of four are right."""
    hits, total = shares
    return np.arange(total) < hits


def test_an_accuracy_comes_with_its_wilson_interval():
    told = accuracy(right(8, 10))
    assert told["accuracy"] == 0.8
    assert (told["low"], told["high"]) == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_no_images_have_no_accuracy():
    assert accuracy(right(0, 0)) == {"images": 0, "accuracy": None, "low": None, "high": None}


def test_recall_counts_every_class_alike_whatever_its_size():
    labels = ["a"] * 9 + ["b"]
    assert mean_per_class_recall(["a"] * 10, labels) == 0.5


def test_overlapping_images_are_told_apart_from_clean_ones():
    overlaps = np.array([True] * 10 + [False] * 90)
    told = by_overlap(np.array([True] * 10 + [True, False] * 45), overlaps)
    assert told["all"]["accuracy"] == 0.55
    assert told["clean"]["accuracy"] == 0.5
    assert told["overlap"]["accuracy"] == 1.0
    assert told["all_minus_clean"] == pytest.approx(0.05)
    assert told["p_value"] == pytest.approx(0.5**10)


@pytest.mark.parametrize(("share", "note"), [(False, "no image overlaps"), (True, "every image")])
def test_without_both_kinds_nothing_is_compared_and_it_is_said_why(share, note):
    told = by_overlap(right(1, 3), np.full(3, share))
    assert (told["p_value"], told["all_minus_clean"]) == (None, None)
    assert note in told["note"]


def test_a_class_is_the_mean_direction_of_its_prompts_whatever_their_lengths():
    class Fixed:
        positional_embedding = torch.zeros(8, 1)

        def encode_text(self, tokens):
            assert len(tokens) == 2
            return torch.tensor([[10.0, 0.0], [0.0, 0.1]])

    templates = ["a {}", "the {}"]
    rows = zeroshot.class_embeddings(Fixed(), Tokenizer([]), ["cat"], templates, CPU)
    assert rows[0].tolist() == pytest.approx([0.5**0.5, 0.5**0.5])


def test_an_image_is_of_the_class_it_points_to():
    classes = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    images = np.array([[0.2, 0.1], [3.0, 5.0]], np.float32)
    assert zeroshot.predict(images, classes).tolist() == [0, 1]


@pytest.fixture
def shapes(tmp_path):
    for split, count in (("test", 2), ("train", 6)):
        for colour in COLOURS:
            folder = tmp_path / "set" / split / f"{colour}_thing"
            folder.mkdir(parents=True)
            for n in range(count):
                (folder / f"{n}.jpg").write_bytes(jpeg(colour, "left", noise=n + 10 * count))
    return tmp_path / "set"


def scored(path, overlapping=frozenset(), **changes):
    arch = Architecture(16, 32, (1,), 64, 16, 64, 1, 32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, "tiny", arch)
        model = build("tiny", 514, seed=0).eval()
    evalset = EvalSet(**{"name": "things", "path": str(path), "train_split": "train"} | changes)
    settings = EvaluateSettings(batch_size=3, probe_halvings=1)
    return score(evalset, model, Tokenizer([]), 32, overlapping, settings, CPU)


def test_a_set_s_scores_stand_beside_chance_and_majority(shapes):
    extra = shapes / "test" / "red_thing" / "more.jpg"
    extra.write_bytes(jpeg("red", "left", noise=99))
    told = scored(shapes).told
    assert (told["images"], told["classes"], told["chance"]) == (9, 4, 0.25)
    assert told["majority"] == pytest.approx(3 / 9)
    assert told["zero_shot"]["all"]["images"] == 9
    # Colours can be read off the features of a model that never learned anything.
    assert told["linear_probe"]["all"]["accuracy"] > told["majority"]
    assert json.loads(json.dumps(told)) == told


def test_an_image_that_cannot_be_read_or_has_no_class_is_counted_and_left_out(shapes):
    (shapes / "test" / "red_thing" / "broken.jpg").write_bytes(b"no image")
    (shapes / "stray.jpg").write_bytes(jpeg("red", "left"))
    found = scored(shapes)
    assert (found.images, found.undecodable, found.unlabelled) == (8, 1, 1)


def test_images_that_the_corpus_holds_are_scored_apart(shapes):
    told = scored(shapes, {"test/red_thing/0.jpg", "test/blue_thing/1.jpg", "other"}).told
    zero_shot = told["zero_shot"]
    assert (zero_shot["overlap"]["images"], zero_shot["clean"]["images"]) == (2, 6)


def test_without_a_training_split_there_is_no_probe(shapes):
    assert "linear_probe" not in scored(shapes, train_split=None).told


def test_a_set_that_cannot_be_scored_is_named(tmp_path):
    (tmp_path / "flat.jpg").write_bytes(jpeg("red", "left"))
    with pytest.raises(BadInput, match=r"evalsets\.things: no image .*1 without a class"):
        scored(tmp_path)
