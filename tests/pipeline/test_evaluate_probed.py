"""The probe on an evaluation set: which metric and which images choose it."""

from functools import partial

import numpy as np
import pytest
import scored_sets
from eval_files import folder
from sklearn.metrics import roc_auc_score
from trainer_shards import COLOURS, jpeg

from pipeline.evaluate import probe
from pipeline.settings import EvalSet, EvaluateSettings

scored = partial(scored_sets.scored, settings=EvaluateSettings(batch_size=8, probe_halvings=0))


def drawn(root, splits, colours):
    """Images as split/colour; every one is another."""
    images = [
        (f"{split}/{colour}/{n}.jpg", jpeg(colour, "left", noise=n + 1000 * place))
        for place, (split, count) in enumerate(splits.items())
        for colour in colours
        for n in range(count)
    ]
    return folder(root, images)


@pytest.fixture
def asked(monkeypatch):
    """What the probe was asked, beside what it answered."""
    calls = []
    real, many = probe.fit_scores, probe.fit_multilabel

    def noted(of):
        def fit(*args, **more):
            found = of(*args, **more)
            calls.append((args, more, found))
            return found

        return fit

    monkeypatch.setattr(probe, "fit_scores", noted(real))
    monkeypatch.setattr(probe, "fit_multilabel", noted(many))
    return calls


def test_two_classes_are_judged_by_the_area_under_the_curve_of_their_logits(tmp_path, asked):
    path = drawn(tmp_path / "s", {"test": 6, "train": 10}, ["red", "blue"])
    told = scored(path, metric="roc_auc").told
    found = told["linear_probe"]
    logits = asked[0][2].logits_NK
    truth = [0] * 6 + [1] * 6  # blue, red
    area = roc_auc_score(truth, logits[:, 1] - logits[:, 0])
    assert found["all"]["score"]["value"] == pytest.approx(area)
    assert found["metric"] == "roc_auc"
    assert 0 <= found["held_out_score"] <= 1


def test_the_strength_is_chosen_by_the_mean_per_class_where_that_is_the_metric(tmp_path, asked):
    path = drawn(tmp_path / "s", {"test": 3, "train": 5}, list(COLOURS))
    scored(path, metric="mean_per_class")
    measure = asked[0][1]["measure"]
    logits, truth = np.eye(4)[[0, 0, 0, 0]], np.array([0, 0, 0, 1])
    assert measure(logits, truth) == pytest.approx(0.5)
    assert probe.accuracy(logits, truth) == pytest.approx(0.75)


def test_the_validation_split_chooses_and_is_learned_from_too(tmp_path, asked):
    path = drawn(tmp_path / "s", {"test": 2, "train": 3, "val": 4}, ["red", "blue"])
    told = scored(path, validation_split="val").told["linear_probe"]
    assert (told["train_images"], told["validation_images"]) == (6, 8)
    (train, labels, *_), more, _ = asked[0]
    assert (len(train), len(labels)) == (6, 6)
    assert [len(part) for part in more["validation"]] == [8, 8]
    assert (told["all"]["images"], told["all"]["score"]["value"]) == (4, 1.0)


def test_a_validation_split_needs_a_training_split(tmp_path):
    with pytest.raises(ValueError, match="name its train_split too"):
        EvalSet(name="things", path=str(tmp_path), validation_split="val")


def test_images_of_several_classes_are_probed_one_class_against_the_others(tmp_path, asked):
    path = drawn(tmp_path / "s", {"test": 4, "train": 10}, list(COLOURS))
    warm = ("red", "white")
    rows = ["image,label"]
    for split, count in (("test", 4), ("train", 10)):
        for colour in COLOURS:
            for n in range(count):
                labels = [colour, "warm" if colour in warm else "cold"]
                rows += [f"{split}/{colour}/{n}.jpg,{label}" for label in labels]
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    found = scored(path, metric="map_11_point", labels=str(tmp_path / "labels.csv"))
    told = found.told["linear_probe"]
    assert told["metric"] == "map_11_point"
    assert told["all"]["score"]["value"] > 0.9
    assert told["all"]["score"]["value"] > found.told["chance"]
    assert asked[0][0][1].shape == (40, 6)


def test_a_set_without_splits_is_not_tested_on_what_it_learned(tmp_path):
    images = [(f"{c}/{n}.jpg", jpeg(c, "left", noise=n)) for c in ("red", "blue") for n in range(6)]
    told = scored(folder(tmp_path / "s", images)).told["linear_probe"]
    assert "12 images are in two of its splits" in told["skipped"]


def test_splits_that_spell_their_classes_otherwise_are_not_scored_as_wrong(tmp_path):
    path = drawn(tmp_path / "s", {"test": 2}, ["red", "blue"])
    images = [
        (f"{colour.upper()}/{n}.jpg", jpeg(colour, "left", noise=n + 50))
        for colour in ("red", "blue")
        for n in range(5)
    ]
    folder(path / "train", images)
    told = scored(path).told["linear_probe"]
    assert "no image to learn from is of a class" in told["skipped"]
    # A set whose classes are known is told by name, however they are spelled.
    told = scored(path, classes=["red", "blue"]).told["linear_probe"]
    assert told["all"]["score"]["value"] == 1.0


def test_where_no_audit_tells_no_image_is_called_clean(tmp_path):
    path = drawn(tmp_path / "s", {"test": 2, "train": 5}, ["red", "blue"])
    found = scored(path, None)
    for way in ("zero_shot", "linear_probe"):
        told = found.told[way]
        assert told["note"] == "no audit tells which of its images the corpus holds"
        assert (told["clean"]["images"], told["overlap"]["images"]) == (0, 0)
        assert told["clean"]["score"]["value"] is None
    assert all(one.overlaps_N is None for one in found.predictions)


def test_overlaps_of_images_that_are_not_there_are_counted(tmp_path):
    path = drawn(tmp_path / "s", {"test": 2, "train": 5}, ["red", "blue"])
    told = scored(path, {"test/red/0.jpg", "elsewhere/0.jpg"}).told
    assert told["overlaps_of_no_image"] == 1
