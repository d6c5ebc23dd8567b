"""queries.wikitext"""

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.text import normalise
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


@settings(deadline=None)
@given(st.lists(_PIECES, max_size=80).map("".join) | st.text())
@example("a = [[\n]]")
@example("\n= {{= \n}}")
def test_no_text_stops_it_and_none_grows(wikitext: str) -> None:
    raw = wikitext.encode("utf-8", "replace")
    assert len(shown(raw)) <= len(raw)
    shown(raw).decode()


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_stop_it(raw: bytes) -> None:
    assert len(shown(raw)) <= len(raw)


@pytest.mark.parametrize(
    "pieces",
    [
        ("{{", ""), ("[[", ""), ("<ref>", ""), ("<!--", ""), ("{{a|", ""), ("\n{|", ""), ("[", ""),
        ("[http://", ""), ("'''", ""), ("</", ""), ("<a ", ""), ("__A", ""), ("a://", ""),
        ("= ", "\n"), ("&", ""), ("&a", ""),
        ("{{", "}}"), ("[[a|", "]]"), ("[[File:a|", "]]"), ("\n{|\n|", "\n|}"), ("{{[[", "]]}}"),
        ("<gallery>\n", ""), ("\n|", ""), ("{|\n|-\n|[[File:a|b", ""),
    ],
)  # fmt: skip
def test_unbalanced_and_deep_markup_takes_no_more_than_linear_time(pieces: tuple[str, str]) -> None:
    def seconds(times: int) -> float:
        text = pieces[0] * times + "x" * times + pieces[1] * times
        began = time.process_time()
        strip(text)
        return time.process_time() - began

    seconds(10)
    # 100,000 pieces in a second: the square of it would be hours.
    assert seconds(100_000) < 1
