"""jobs.load"""

from pathlib import Path

import pytest

from jobs import load
from pipeline.errors import BadInput
from pipeline.settings import Settings


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        ("[balance]\nmax_pairs = 3", "balance.max_pairs: Extra inputs are not permitted"),
        ("[balance]\nmax_pairs_per_query = 0", "balance.max_pairs_per_query: Input should be"),
        ("[balance]\nmax_pairs_per_query = '9'", "balance.max_pairs_per_query: Input should be"),
        ("[balance]\nmax_pair_per_query = 3", "did you mean balance.max_pairs_per_query"),
        ("[blance]\nseed = 1", "blance: Extra inputs are not permitted"),
        ("[[evalsets]]\nname = 'A B'\npath = 'x'", "evalsets.0.name"),
        ("[[evalsets]]\nname = 'a'\npath = 'x'\n" * 2, "every name must be its own"),
        ('[download]\ncontact = "me\\r\\nHost: other"', "download.contact: String should match"),
        ("balance = ", "is not TOML"),
    ],
)
def test_a_mistaken_setting_is_named_with_its_path(tmp_path: Path, toml: str, told: str) -> None:
    (tmp_path / "run.toml").write_text(toml)
    with pytest.raises(BadInput, match=told):
        load.load(tmp_path / "run.toml", [])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none.toml does not exist"):
        load.load(tmp_path / "none.toml", [])


def test_an_assignment_is_laid_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("[balance]\nseed = 1\n[train]\nmodel = 'tiny'")
    sets = ["balance.seed=2", "train.model=RN50", 'ingest.languages=["de"]']
    settings = load.load(tmp_path / "run.toml", sets)
    assert (settings.balance.seed, settings.train.model) == (2, "RN50")
    assert settings.ingest.languages == ["de"]


@pytest.mark.parametrize("assignment", ["balance.seed", "=1", "balance.seed.x=1"])
def test_an_assignment_that_is_none_is_refused(assignment: str) -> None:
    with pytest.raises(BadInput, match="--set"):
        load.load(None, ["balance.seed=1", assignment])


def test_settings_that_are_written_are_read_back_the_same() -> None:
    tree = {
        "derive": {"dumps": ['a "quoted" \\ path\t\x7f.xml', "é 🎉"]},
        "ingest": {"tables": [{"path": "p", "url": "u"}, {"path": "q"}]},
        "evalsets": [{"name": "a", "path": "x"}, {"name": "b", "path": "y", "scored": False}],
    }
    settings = load.parse(tree, origin="test")
    import tomllib

    assert Settings.model_validate(tomllib.loads(load.dump(settings))) == settings


def test_classes_come_back_whatever_their_labels_and_none_is_taken_for_a_path(
    tmp_path: Path,
) -> None:
    told = {"a b": ["x", "y"], 'quo"te': "z", "path": "not a path"}
    tree = {"evalsets": [{"name": "a", "path": "/x", "classes": told}]}
    file = tmp_path / "run.toml"
    file.write_text(load.dump(load.parse(tree, origin="the test")))
    assert load.load(file, []).evalsets[0].classes == told
