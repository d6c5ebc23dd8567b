"""pipeline.evalsets.registry and `wit evalsets`"""

import tomllib
from pathlib import Path

import pytest

from jobs import list_evalsets, load
from pipeline.errors import BadInput
from pipeline.evalsets.registry import doubt, known
from pipeline.settings import EvalSet, Settings


def test_the_registry_knows_clips_27_sets() -> None:
    clips = [one for one in known().values() if one.in_clip]
    assert len(clips) == 27
    assert all(one.images and one.classes and one.source.startswith("CLIP") for one in clips)


def test_every_known_set_can_be_pasted_into_settings(capsys: pytest.CaptureFixture[str]) -> None:
    for name, one in known().items():
        list_evalsets.show(name)
        told = capsys.readouterr().out
        assert one.home in told
        pasted = tomllib.loads(told[told.index("[[evalsets]]") :])
        (evalset,) = Settings.model_validate(pasted).evalsets
        defaults = EvalSet(name=name, path=evalset.path, captions=evalset.captions)
        assert defaults == evalset


def test_a_known_name_brings_defaults_and_what_is_written_stays() -> None:
    assert EvalSet(name="imagenet", path="x").split == "val"
    assert EvalSet(name="imagenet", path="x", split="test").split == "test"
    assert EvalSet(name="flickr30k", path="x").scored is False
    assert EvalSet(name="hateful_memes", path="x").metric == "roc_auc"
    mine = EvalSet(name="mine", path="x")
    assert (mine.split, mine.metric, mine.scored) == ("test", "accuracy", True)
    assert EvalSet(name="mine", path="x", purpose="opt-out").scored is False


def test_a_wrong_number_of_images_is_told_with_the_right_one() -> None:
    told = "cifar10: 9,000 images of split test; the registry knows 10,000"
    assert doubt("cifar10", "test", 9000) == told
    assert doubt("imagenet", "validation", 49_999) is not None
    for name, split, images in (
        ("cifar10", "test", 10_000),
        ("cifar10", "train", 50_000),
        ("eurosat", "test", 5400),
        ("imagenet_vid", "test", 1),
        ("mine", "test", 1),
    ):
        assert doubt(name, split, images) is None


def test_the_list_flags_small_images(capsys: pytest.CaptureFixture[str]) -> None:
    list_evalsets.show(None)
    lines = capsys.readouterr().out.splitlines()
    small = {line.split("│")[1].strip() for line in lines if "(small)" in line and "│" in line}
    assert {"cifar10", "cifar100", "mnist"} <= small
    assert "imagenet" not in small
    assert any("imagenet_sketch" in line and "50,889" in line for line in lines)


def test_a_mistyped_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(BadInput, match="did you mean cifar100"):
        list_evalsets.show("cifar_100")


def test_the_table_of_captions_is_found_from_anywhere(tmp_path: Path) -> None:
    toml = "[[evalsets]]\nname = 'a'\npath = 'p'\ncaptions = 'c.csv'\n"
    (tmp_path / "a.toml").write_text(toml)
    (evalset,) = load.load(tmp_path / "a.toml", []).evalsets
    assert Path(evalset.captions or "").is_absolute()
    assert Path(evalset.path).is_absolute()
