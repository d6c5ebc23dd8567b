"""queries.wordnet"""

from pathlib import Path

import pytest

from pipeline.errors import BadInput
from queries.combine import INTEGERS
from queries.wordnet import synset_names
from tests.queries.wiki import write_wordnet

_DEBIAN = Path("/usr/share/wordnet")
needs_wordnet = pytest.mark.skipif(
    not (_DEBIAN / "data.noun").is_file(), reason="WordNet is not here: install wordnet-base"
)


def test_a_synset_is_named_by_its_first_lemma(tmp_path: Path) -> None:
    folder = write_wordnet(tmp_path, "red_kite", "red_kite", "St._Louis", "alive(p)", "a")
    assert synset_names(folder) == ["red kite", "St. Louis", "alive", "a"]


def test_in_metaclips_mode_a_name_ends_at_its_first_dot(tmp_path: Path) -> None:
    folder = write_wordnet(tmp_path, "Red_Kite", ".22_caliber", "St._Louis", "alive(p)", "St._John")
    assert synset_names(folder, "metaclip") == ["red kite", "st", "alive"]


@needs_wordnet
def test_metaclips_mode_gives_metaclips_number_of_entries() -> None:
    names = synset_names(str(_DEBIAN), "metaclip")
    assert len(names) == 86_554
    assert len({*names, *INTEGERS}) == 86_654


@needs_wordnet
def test_names_with_a_dot_are_whole() -> None:
    names = synset_names(str(_DEBIAN))
    assert {"St. Petersburg", "Ph.D.", ".22 caliber", "et al."} <= set(names)
    mangled = {name.lower() for name in names} - set(synset_names(str(_DEBIAN), "metaclip"))
    assert all("." in name for name in mangled)
    assert len(mangled) == 24


def test_a_missing_wordnet_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="apt-get install wordnet-base"):
        synset_names(str(tmp_path))
    folder = write_wordnet(tmp_path, "a", "b", "c")
    (tmp_path / "data.noun").write_text("garbage\n")
    with pytest.raises(BadInput, match="line 1 is not a synset"):
        synset_names(folder)
