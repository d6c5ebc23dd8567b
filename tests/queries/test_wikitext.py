"""queries: wikitext, stack, markup"""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.text import normalise
from queries.dump import parse
from queries.wikitext import shown, strip


@pytest.mark.parametrize(
    ("wikitext", "words"),
    [
        ("'''Red''' is [[colour|a colour]].", "red is a colour"),
        ("'''B'''eta H<sub>2</sub>O [[link]]ed", "beta h2o linked"),
        ("a {{cite|x={{y|z}}|}} b", "a b"),
        ("a <ref name=x>hidden</ref> b <ref name=y /> c<ref>{{d}}</ref>e", "a b c e"),
        ("a <REF>x</reference> y</Ref > b <references>z</references>", "a b z"),
        ("a <ref>never closed b", "a never closed b"),
        ("== Head ==\n* item\n:; x", "head item x"),
        ("[[Category:Shapes|sorted]] [[de:Kreis]] [[zh-yue:圓]] x", "x"),
        (
            "[[:Category:Shapes]] [[ER: the show]] [[AC/DC: live]]",
            "category shapes er the show ac dc live",
        ),
        ("[http://a.example the page] http://b.example/x?y=z [//c] [mailto:d e]", "the page e"),
        ("see [1] or [a b], at 12:30//31", "see 1 or a b at 12 30 31"),
        ("<!-- no\n --> caf&eacute; &amp; bar<!-- never closed", "café bar never closed"),
        ("a {{never closed b", "a never closed b"),
        ("a }} b |} c ]] d", "a b c d"),
        ("{{outer {{inner }} b", "outer b"),
        ("{{a [[b }} c]] d", "c d"),
        ("[[a {{b ]] c }} d", "a b c d"),
        ("[[never closed\n\nnext [[b|c]]", "never closed next c"),
        ("''Titanic'''s '''Bob''''s '''N'''A ''a '''b''' c''", "titanic s bob s na a b c"),
        ("''a\n'''N'''ASA", "a nasa"),
        ("[[doi:10.1/x|the paper]] [[simple:A]] [[nds-nl:B]] [[roa-rup:C]]", "the paper"),
        ('<span title="x > y">b</span> <ref name="a/>b">c</ref> <i title="d>e', "b e"),
        ("__NOTOC__ snake_case __init__", "snake case init"),
        ("<nowiki>{{a}}</nowiki> <pre>[[b|c]]</pre> <math>x</math> a < b", "a b c a b"),
        ("one<br/>two <div class='x'>three</div>", "one two three"),
        ("", ""),
    ],
)
def test_what_a_reader_sees_stays(wikitext: str, words: str) -> None:
    assert normalise(strip(wikitext)) == words


@pytest.mark.parametrize(
    ("wikitext", "words"),
    [
        ("[[File:a.jpg|thumb|120px|a [[red]] kite]] x", "a red kite x"),
        ("[[File:a.jpg|alt=no|upright=1.2|100x20px|a|link=b|c]]x", "c x"),
        ("[[Image:a.jpg|left|frameless]] x", "x"),
        ("[[file:a.jpg|thumb|two [[a|b]] [[File:c.png|20px]] lines]]", "two b lines"),
        ("[[File:a.jpg|thumb\n|a caption\nof two lines]] x", "a caption of two lines x"),
        ("<gallery>\nFile:a.jpg|alt=no|one [[x|y]]\nb.png\n</gallery>\n|z", "one y z"),
        ("<gallery>\na.jpg|a|b\nc.jpg</gallery>d [[e|f]]\ng", "b d f g"),
        ("<gallery>\na.jpg|a<!-- no --> b</gallery>c|d", "a b c d"),
        ("<gallery mode=packed>\nFile:a.jpg|left|cap\n", "file a jpg left cap"),
    ],
)
def test_captions_of_pictures_are_text(wikitext: str, words: str) -> None:
    assert normalise(strip(wikitext)) == words


@pytest.mark.parametrize(
    ("wikitext", "lines"),
    [
        ("{| class=wikitable\n|-\n| cell\n|}\nafter", ["cell", "after"]),
        (
            "{|\n|+ the caption\n! H1 !! H2 || H3\n|-\n| a || b\n|}",
            ["the caption", "h1", "h2", "h3", "a", "b"],
        ),
        ('{|\n|- bgcolor=x\n| style="a:b" | c || colspan=2 | d\n|}', ["c", "d"]),
        (
            '{|\n| colspan=2 style="a: b" {{yes}} || rowspan = 3\n| e=mc2 || width\n|}',
            ["e mc2", "width"],
        ),
        ("{|\n| [[a|b]] or | c\n| {{x|y}} | z\n|}", ["b or c", "z"]),
        ("{|\n| a\n{| border=1\n| in\n|}\n| b\n|}\nc", ["a", "in", "b", "c"]),
        ("{{box|\n{|\n| in a template\n|}}}\nb", ["b"]),
        ("{{box\n|a=\n|}}\nb", ["b"]),
        ("{|\n| [[File:a.jpg|thumb\n|-\n| b\n|}\nc", ["b", "c"]),
        ("{|\n| never closed\nb", ["never closed", "b"]),
        ("<!--x-->{| class=a\n <!--y--> <!--z-->|b||c\n|}", ["b", "c"]),
    ],
)
def test_cells_of_tables_are_text_and_a_line_each(wikitext: str, lines: list[str]) -> None:
    assert [line for line in map(normalise, strip(wikitext).splitlines()) if line][
        -len(lines) :
    ] == lines


_PIECES = st.sampled_from(
    ["{{", "}}", "{|", "|}", "|-", "[[", "]]", "[http://a", "|", "||", "!", "\n", "<ref>", "</ref>",
     "<gallery>", "</gallery>", "<nowiki>", "</nowiki>", "<!--", "-->", "<br>", "File:x", "thumb",
     "''", "__A__", "://", "a ", "b", "=", ":", " ", "é"]
)  # fmt: skip


_LINES = st.lists(st.sampled_from(["|x", "|", "a|b|c", "|[[", "|[[a|b]]", "x", "{|", "|}", "|-"]))
_GALLERIES = _LINES.map(lambda lines: "<gallery>\n" + "\n".join(lines) + "</gallery>\nx")
_MARKUP = st.lists(_PIECES, max_size=80).map("".join) | _GALLERIES


@settings(deadline=None)
@given(_MARKUP | st.text())
@example("a = [[\n]]")
@example("\n= {{= \n}}")
@example("<gallery>\n" + "|x\n" * 1000 + "</gallery>")
@example("|x\n" * 1000)
def test_no_text_stops_it_and_none_grows(wikitext: str) -> None:
    raw = wikitext.encode("utf-8", "replace")
    assert len(shown(raw)) <= len(raw)
    shown(raw).decode()


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_stop_it(raw: bytes) -> None:
    assert len(shown(raw)) <= len(raw)


@pytest.mark.skipif("NUMBA_BOUNDSCHECK" in os.environ, reason="it is this run that looks")
def test_nothing_is_read_or_written_out_of_bounds(tmp_path: Path) -> None:
    """Compiled loops do not look where they write, unless they are told to."""
    told = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", __file__, "-k", "stops_it or stays or text"],
        env={**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout


@pytest.mark.parametrize(
    "pieces",
    [
        ("{{", ""), ("[[", ""), ("<ref>", ""), ("<!--", ""), ("{{a|", ""), ("\n{|", ""), ("[", ""),
        ("[http://", ""), ("'''", ""), ("</", ""), ("<a ", ""), ("__A", ""), ("a://", ""),
        ("= ", "\n"), ("&", ""), ("&a", ""),
        ("{{", "}}"), ("[[a|", "]]"), ("[[File:a|", "]]"), ("\n{|\n|", "\n|}"), ("{{[[", "]]}}"),
        ("<gallery>\n", ""), ("\n|", ""), ("e\u0301\u0327", ""), ("\u0301\u0327", ""),
        ("\u00bd", ""), ("<gallery>\n|x\n", "</gallery>"), ("{|\n|-\n|[[File:a|b", ""),
    ],
)  # fmt: skip
def test_unbalanced_and_deep_markup_takes_no_more_than_linear_time(pieces: tuple[str, str]) -> None:
    def seconds(times: int) -> float:
        page = pieces[0] * times + "x" * times + pieces[1] * times
        raw = f"<page><title>A</title><ns>0</ns><text>{page}</text></page>".encode()
        began = time.process_time()
        parse(raw)
        return time.process_time() - began

    seconds(10)
    # Eight times the text in eight times the time; were it the square, it would be 64.
    assert seconds(240_000) < 24 * seconds(30_000) + 0.2
