"""Classes: which label means which class, and what is refused rather than guessed."""

import pytest
from eval_files import folder, hugging_face, png, tar

from pipeline.errors import BadInput
from pipeline.evalsets.registry import known
from pipeline.evaluate import prompts
from pipeline.evaluate.classes import classes_of
from pipeline.settings import EvalSet


def evalset(name, **changes):
    return EvalSet(**{"name": name, "path": "/nowhere"} | changes)


def meant(found):
    """By label the first name of its class."""
    return {label: found.names[place][0] for label, place in found.place.items()}


def test_every_set_of_clips_has_prompts_and_as_many_classes_as_table_9_but_for_one():
    other = {}
    for name, one in known().items():
        if not one.in_clip:
            continue
        told = prompts.of(name)
        assert all("{}" in template for template in told.templates)
        assert len(told.labels) in (0, len(told.classes))
        if len(told.classes) != one.classes:
            other[name] = (len(told.classes), one.classes)
    assert other == {"fer2013": (7, 8)}
    assert len(prompts.of("imagenet").templates) == 80
    assert prompts.of("things") is None


def test_folders_are_classes_by_their_names_however_they_are_spelled():
    told = classes_of(evalset("food101"), ["apple_pie", "Baby Back-Ribs"])
    assert meant(told) == {"apple_pie": "apple pie", "Baby Back-Ribs": "baby back ribs"}
    assert len(told.names) == 101
    assert "a photo of {}, a type of food." in told.templates


def test_a_class_of_several_names_keeps_them_all():
    told = classes_of(evalset("fer2013"), ["happy", "surprise"])
    assert told.names[told.place["happy"]] == ("happy", "smiling")
    assert told.names[told.place["surprise"]] == ("surprised", "shocked", "spooked")


def test_numbers_are_classes_in_their_order_from_0_or_from_1():
    assert meant(classes_of(evalset("cifar10"), ["0", "9"])) == {"0": "airplane", "9": "truck"}
    told = classes_of(evalset("flowers102"), ["1", "102"])
    assert meant(told) == {"1": "pink primrose", "102": "blackberry lily"}


@pytest.mark.parametrize("labels", [["1", "5", "50"], ["101"]])
def test_numbers_that_may_count_from_0_or_from_1_are_refused(labels):
    with pytest.raises(BadInput, match=r"neither 0 nor 102 is among them"):
        classes_of(evalset("flowers102"), labels)


def test_a_number_that_is_a_class_s_name_is_that_class_and_no_place():
    told = classes_of(evalset("clevr_counts"), ["3", "10"])
    assert meant(told) == {"3": "3", "10": "10"}
    assert meant(classes_of(evalset("clevr_counts"), ["0", "7"])) == {"0": "3", "7": "10"}


def test_pets_are_numbered_as_oxford_does_and_not_as_clip_lists_them():
    told = meant(classes_of(evalset("oxford_pets"), ["0", "1"]))
    assert told == {"0": "Abyssinian", "1": "american bulldog"}


def test_numbers_that_sources_differ_about_are_refused():
    with pytest.raises(BadInput, match=r"evalsets\.caltech101: its labels \(`0`, `1`\)"):
        classes_of(evalset("caltech101"), ["0", "1"])


def test_wordnet_ids_are_imagenets_classes_and_its_parts_are_scored_among_their_own():
    labels = ["n01443537", "n01440764"]
    whole = classes_of(evalset("imagenet"), labels)
    assert meant(whole) == {"n01440764": "tench", "n01443537": "goldfish"}
    assert len(whole.names) == 1000
    part = classes_of(evalset("imagenet_r"), labels)
    assert [names[0] for names in part.names] == ["tench", "goldfish"]
    assert part.keys == ["n01440764", "n01443537"]
    assert part.templates == whole.templates


@pytest.fixture
def there(tmp_path):
    return str(folder(tmp_path / "set", [("test/a/0.png", png(0))]))


def test_a_name_that_two_classes_share_is_refused(there):
    with pytest.raises(BadInput, match="`missile`"):
        classes_of(evalset("imagenet", path=there), ["missile", "tench"])


def test_a_set_that_lists_its_own_classes_is_told_by_their_order(tmp_path):
    names = [f"{place}th kind" for place in range(10)]
    members = [("0.png", png(1)), ("0.cls", b"3")]
    tar(tmp_path / "a" / "test" / "0.tar", members)
    folder(tmp_path / "a", [("classnames.txt", "\n".join(names).encode())])
    told = classes_of(evalset("cifar10", path=str(tmp_path / "a")), ["3th kind", "9th kind"])
    assert meant(told)["3th kind"] == "cat"
    table = hugging_face(tmp_path / "b" / "test.parquet", [(png(1), 3)], names)
    told = classes_of(evalset("cifar10", path=str(table)), ["3th kind", "9th kind"])
    assert meant(told)["9th kind"] == "truck"


def test_unknown_labels_are_named_with_what_to_do(there):
    with pytest.raises(BadInput, match=r"`cat`, `lion`.* 10 classes .* `classes = \{"):
        classes_of(evalset("cifar10", path=there), ["cat", "lion"])


def test_more_numbers_than_classes_are_refused(there):
    with pytest.raises(BadInput, match="10 classes"):
        classes_of(evalset("cifar10", path=there), [str(number) for number in range(12)])


def test_settings_name_classes_in_the_order_of_numbers_or_by_label():
    listed = evalset("things", classes=["cat", ["dog", "hound"]], templates=["{}!"])
    told = classes_of(listed, ["1", "0"])
    assert told.names[told.place["1"]] == ("dog", "hound")
    assert told.templates == ["{}!"]
    by_label = evalset("cifar10", classes={"k": "cat", "h": "dog", "x": "cow"})
    told = classes_of(by_label, ["h", "k"])
    assert (meant(told)["h"], len(told.names)) == ("dog", 3)
    with pytest.raises(BadInput, match="`z`"):
        classes_of(by_label, ["h", "z"])


def test_a_set_of_one_s_own_has_the_classes_of_its_folders():
    told = classes_of(evalset("things"), ["red_circle", "blue-box"])
    assert [names[0] for names in told.names] == ["blue box", "red circle"]
    assert told.templates == ["a photo of a {}."]


@pytest.mark.parametrize("labels", [[], ["only"]])
def test_one_class_or_none_is_nothing_to_tell_apart(labels):
    with pytest.raises(BadInput, match="nothing can be told apart"):
        classes_of(evalset("things"), labels)


def test_a_template_without_a_place_for_the_class_is_refused():
    with pytest.raises(BadInput, match="every template"):
        classes_of(evalset("things", templates=["a photo"]), ["a", "b"])
