"""Scores: zero-shot, linear probe, and what overlap does to both."""

import json
from functools import partial

import numpy as np
import pytest
import scored_sets
import torch
from eval_files import folder
from scored_sets import CPU, small_model
from trainer_shards import COLOURS, jpeg

from pipeline.errors import BadInput
from pipeline.evaluate import zeroshot
from pipeline.settings import EvaluateSettings
from pipeline.tokenizer import Tokenizer

scored = partial(scored_sets.scored, settings=EvaluateSettings(batch_size=3, probe_halvings=1))


def test_a_class_is_the_mean_direction_of_its_prompts_whatever_their_lengths():
    class Fixed:
        positional_embedding = torch.zeros(8, 1)

        def encode_text(self, tokens):
            assert len(tokens) == 2
            return torch.tensor([[10.0, 0.0], [0.0, 0.1]])

    templates = ["a {}", "the {}"]
    rows = zeroshot.class_embeddings(Fixed(), Tokenizer([]), [("cat",)], templates, CPU)
    assert rows[0].tolist() == pytest.approx([0.5**0.5, 0.5**0.5])


def test_an_image_is_of_the_class_it_points_to():
    classes = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    images = np.array([[0.2, 0.1], [3.0, 5.0]], np.float32)
    assert zeroshot.predict(images, classes).tolist() == [0, 1]


@pytest.fixture
def shapes(tmp_path):
    images = [
        (f"{split}/{colour}_thing/{n}.jpg", jpeg(colour, "left", noise=n + 10 * count))
        for split, count in (("test", 2), ("train", 6))
        for colour in COLOURS
        for n in range(count)
    ]
    return folder(tmp_path / "set", images)


def test_a_set_s_scores_stand_beside_chance_and_majority(shapes):
    extra = shapes / "test" / "red_thing" / "more.jpg"
    extra.write_bytes(jpeg("red", "left", noise=99))
    told = scored(shapes).told
    assert (told["images"], told["classes"], told["chance"]) == (9, 4, 0.25)
    assert told["majority"] == pytest.approx(3 / 9)
    assert told["zero_shot"]["all"]["images"] == 9
    assert told["zero_shot"]["all"]["score"] == told["zero_shot"]["all"]["measures"]["accuracy"]
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


def test_the_answers_are_those_of_encoding_every_prompt_by_itself():
    model = small_model()
    names, templates = [("cat",), ("a long-haired dog", "hound")], ["a {}.", "a photo of the {}!"]
    found = zeroshot.class_embeddings(model, Tokenizer([]), names, templates, CPU, batch_size=3)
    for own, row in zip(names, found, strict=True):
        units = []
        for prompt in (t.replace("{}", n) for n in own for t in templates):
            tokens = torch.from_numpy(Tokenizer([]).encode_batch([prompt], 32))
            with torch.inference_mode():
                units.append(torch.nn.functional.normalize(model.encode_text(tokens)[0], dim=0))
        mean = torch.nn.functional.normalize(sum(units), dim=0)
        assert row == pytest.approx(mean.numpy(), abs=1e-6)


def test_bf16_moves_embeddings_a_little_and_no_more(shapes):
    kept = []
    for precision in ("fp32", "bf16"):
        settings = EvaluateSettings(batch_size=3, precision=precision)
        found = scored(shapes, settings=settings, train_split=None)
        kept.append(found.kept.embedding_NE)
    assert not np.array_equal(*kept)
    assert np.abs(kept[0] - kept[1]).max() < 0.03 * np.abs(kept[0]).max()


def test_a_diverged_model_is_not_scored(shapes):
    model = small_model()
    with torch.no_grad():
        model.visual.proj[0, 0] = float("nan")
    with pytest.raises(BadInput, match="is not finite"):
        scored(shapes, settings=EvaluateSettings(), model=model, train_split=None)


def test_of_equally_near_classes_the_first_is_taken_and_stands_first():
    classes = np.tile(np.array([[1.0, 0.0]], np.float32), (12, 1))
    found = zeroshot.answers(np.ones((3, 2), np.float32), classes, np.array([0, 4, 5]))
    assert found.predicted_N.tolist() == [0, 0, 0]
    assert found.in_top_N.tolist() == [True, True, False]


def test_images_of_several_classes_have_a_mean_average_precision(shapes):
    table = shapes / "labels.csv"
    rows = ["image,label"]
    for colour in COLOURS:
        rows += [f"test/{colour}_thing/{n}.jpg,{colour}" for n in range(2)]
        rows += [f"test/{colour}_thing/0.jpg,first"]
    table.write_text("\n".join(rows) + "\n")
    changes = {"labels": str(table), "metric": "map_11_point", "format": "folder"}
    changes["train_split"] = None
    told = scored(shapes, {"test/red_thing/0.jpg"}, **changes).told
    assert told["classes"] == 5
    assert told["chance"] == pytest.approx(12 / 40)
    zero_shot = told["zero_shot"]
    assert list(zero_shot["all"]["measures"]) == ["map_11_point"]
    assert 0 < zero_shot["all"]["score"]["value"] <= 1
    assert zero_shot["all_minus_clean"] is not None
    with pytest.raises(BadInput, match=r"has 2 classes, and accuracy needs one"):
        scored(shapes, **changes | {"metric": "accuracy"})


def test_two_classes_have_an_area_under_the_curve(shapes):
    for colour in ("green", "white"):
        for split in ("test", "train"):
            for file in (shapes / split / f"{colour}_thing").iterdir():
                file.unlink()
    told = scored(shapes, metric="roc_auc", train_split=None).told
    assert (told["classes"], told["chance"]) == (2, 0.5)
    assert told["zero_shot"]["all"]["score"]["value"] is not None
    (shapes / "test" / "green_thing" / "0.jpg").write_bytes(jpeg("green", "left"))
    with pytest.raises(BadInput, match="roc_auc is of two classes, and it has 3"):
        scored(shapes, metric="roc_auc")


def test_captions_are_found_and_find_their_images(shapes):
    table = shapes / "captions.csv"
    rows = [f"test/{c}_thing/{n}.jpg,{c} {n} {k}" for c in COLOURS for n in range(2) for k in "ab"]
    table.write_text("image,caption\n" + "\n".join(rows) + "\nnowhere.jpg,lost\n")
    (shapes / "test" / "red_thing" / "mute.jpg").write_bytes(jpeg("red", "left", noise=5))
    changes = {"captions": str(table), "metric": "recall_at_k", "format": "folder"}
    found = scored(shapes, {"test/red_thing/0.jpg"}, **changes)
    told = found.told
    assert (told["images"], told["texts"], told["without_captions"]) == (8, 16, 1)
    assert told["captions_of_no_image"] == 1
    assert told["retrieval"]["all"]["measures"]["image_to_text_10"]["value"] > 0
    assert (told["retrieval"]["overlap"]["images"], told["retrieval"]["overlap"]["texts"]) == (1, 2)
    assert json.loads(json.dumps(told)) == told


@pytest.mark.parametrize("threads", [1, 3])
def test_images_are_decoded_by_any_number_of_threads_into_the_same_scores(shapes, threads):
    settings = EvaluateSettings(batch_size=3, probe_halvings=1, threads=threads)
    told = scored(shapes, settings=settings, train_split=None)
    names = [f"test/{c}_thing/{n}.jpg" for c in sorted(COLOURS) for n in range(2)]
    assert told.predictions[0].names == names
    assert told.told == scored(shapes, train_split=None).told
