"""queries.wikitext"""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text import normalise
from queries.wikitext import strip


@pytest.mark.parametrize(
    ("wikitext", "shown"),
    [
        ("'''Red''' is [[colour|a colour]].", "red is a colour"),
        ("a {{cite|x={{y|z}}|}} b", "a b"),
        ("a <ref name=x>hidden</ref> b <ref name=y /> c", "a b c"),
        ("== Head ==\n* item", "head item"),
        ("{| class=wikitable\n|-\n| cell\n|}\nafter", "after"),
        ("[[File:a.jpg|thumb|120px|a [[red]] kite]] x", "a red kite x"),
        ("[[Category:Shapes]] [[de:Kreis]] x", "x"),
        ("[http://a.example the page] http://b.example", "the page"),
        ("<!-- no\n --> caf&eacute; &amp; bar", "café bar"),
        ("a {{never closed b", "a never closed b"),
        ("a }} b |} c", "a b c"),
        ("{{outer {{inner }} b", "outer b"),
    ],
)
def test_what_a_reader_sees_stays(wikitext: str, shown: str) -> None:
    assert normalise(strip(wikitext)) == shown


_PIECES = st.sampled_from(
    ["{{", "}}", "{|", "|}", "[[", "]]", "|", "\n", "<ref>", "</ref>", "a ", "="]
)


@given(st.lists(_PIECES, max_size=60).map("".join) | st.text())
def test_no_text_stops_it(wikitext: str) -> None:
    strip(wikitext)


@pytest.mark.parametrize(
    "piece", ["{{", "[[", "<ref>", "{{a|", "\n{|", "[http://", "'''", "<!--", "["]
)
def test_unbalanced_markup_takes_no_more_than_linear_time(piece: str) -> None:
    began = time.process_time()
    strip(piece * 40_000)
    assert time.process_time() - began < 5
