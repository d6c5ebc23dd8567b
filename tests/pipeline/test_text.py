"""pipeline.text"""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text import fold, normalise, tokens, unescape


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("A Red  Circle!", "a red circle"),
        ("don't", "don t"),
        ("ﬁne ＡＢＣ", "fine abc"),
        ("snake_case", "snake case"),
        ("हिन्दी", "हिन्दी"),
        ("№ 5", "no 5"),
        ("🎉 …", ""),
    ],
)
def test_a_text_is_cut_into_runs_of_letters_numbers_and_marks(text: str, normal: str) -> None:
    assert normalise(text) == normal


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@given(st.text())
def test_no_token_holds_a_space_or_is_empty(text: str) -> None:
    assert all(token and " " not in token for token in tokens(text))


@given(st.lists(st.text(max_size=20), max_size=6))
def test_lines_fold_as_they_do_apart(lines: list[str]) -> None:
    assert fold("\n".join(lines)) == "\n".join(fold(line) for line in lines)


def test_marks_without_end_are_cut_off_and_take_no_more_than_linear_time() -> None:
    began = time.process_time()
    folded = fold("a" + "\u0301\u0327" * 100_000 + " b")
    assert time.process_time() - began < 1
    assert len(folded) < 40
    assert folded.endswith(" b")
    # Marks that become two when they are normalised.
    assert fold(fold("a" + "\u0344" * 100)) == fold("a" + "\u0344" * 100)


@pytest.mark.parametrize(
    ("escaped", "text"),
    [
        ("&amp;amp; &eacute;&#233;&#xe9;", "&amp; ééé"),
        ("&#" + "1" * 5000 + ";x", "\ufffdx"),
        ("&#0;&#xD800;&#xFFFFFFFFFF;&nosuch;", "\ufffd\ufffd\ufffd&nosuch;"),
    ],
)
def test_an_entity_is_what_it_stands_for(escaped: str, text: str) -> None:
    assert unescape(escaped) == text
