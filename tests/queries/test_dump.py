"""queries.dump"""

import bz2
import html
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from pipeline.errors import BadInput
from queries import dump, tally
from queries.dump import parse
from tests.queries.wiki import HEAD, page, write_dump


def _parse(text: str) -> dump.Page:
    return parse(text.strip().encode())


def test_a_page_is_told_by_its_kind() -> None:
    assert _parse(page("A & B", "x '''y'''"))[:4] == ("article", "A & B", None, "x y\n")
    assert _parse(page("A", target="B & C"))[:3] == ("redirect", "A", "B & C")
    assert _parse(page("Talk:A", "x", ns=1)).kind == "other namespace"
    assert _parse("<page><ns>0</ns></page>").kind == "no title"
    assert _parse("<page><title>A</title><ns>0</ns><text bytes='0' /></page>").kind == "no text"
    assert _parse("<page><title>A</title><ns>0</ns></page>").kind == "no text"
    assert _parse(page("A", " ")).kind == "no text"
    # The exports of old had no namespaces, and told of a redirect in its text alone.
    assert _parse("<page><title>A</title><text>a</text></page>").kind == "article"
    old = _parse("<page><title>A</title><text>#Redirect: [[B#c|d]]</text></page>")
    assert (old.kind, old.target) == ("redirect", "B")


def test_of_a_page_with_its_history_the_last_revision_counts() -> None:
    history = "<page><title>A</title><text>old</text></revision><text bytes='3'>new</text></page>"
    assert _parse(history).text == "new\n"


def test_entities_of_xml_and_of_html_are_each_undone_once() -> None:
    assert _parse(page("A", "a&nbsp;b &amp;amp; <b>c</b> &lt;ref>d")).text == "a b &amp; c <ref>d\n"


def test_bytes_that_are_no_utf8_are_replaced_and_told_of() -> None:
    broken = b"<page><title>A\xff</title><ns>0</ns><text>red \xff kite \xe2\x82</text></page>"
    found = parse(broken)
    assert (found.title, found.text, found.is_mended) == (
        "A\ufffd",
        "red \ufffd kite \ufffd\n",
        True,
    )
    assert not _parse(page("A", "red kite")).is_mended


@settings(deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_no_bytes_stop_it(noise: bytes, is_text: bool) -> None:
    around = (b"<page><title>A</title><text>", b"</text></page>") if is_text else (b"<page>", b"")
    text = parse(noise.join(around)).text
    assert text is None or text.encode().endswith(b"\n")


@settings(deadline=None)
@given(st.text(alphabet=st.characters(blacklist_categories=["Cs"]), max_size=60))
def test_words_without_markup_come_through(words: str) -> None:
    plain = "".join(" " if c in "\n\r!':<>[]_{|}&*#;=" else c for c in words)
    text = _parse(page("A", f"x {plain}")).text
    assert text is not None
    assert text.split() == [*html.unescape(dump.fold(f"x {plain}")).split()]


def test_dumps_in_parts_are_read_whole_whatever_the_split(
    spark: SparkSession, tmp_path: Path
) -> None:
    parts = [
        write_dump(tmp_path / "a.bz2", page("A", "a"), page("Talk:A", "not this", ns=1)),
        write_dump(tmp_path / "b.bz2", page("B", "b"), page("Bs", target="B")),
    ]
    plain = tmp_path / "c.xml"
    plain.write_text(f"{HEAD}{page('C', 'c')}<page><title>D</title><text>cut")
    parts.append(str(plain))
    for split_bytes in (50, 1 << 20):
        found = dump.pages(spark, parts, "enwiki", split_bytes)
        rows = [(r["dump"], r["kind"], r["title"], r["text"]) for r in found.collect()]
        assert sorted(rows, key=str) == [
            (0, "article", "A", "a\n"),
            (0, "other namespace", "Talk:A", None),
            (1, "article", "B", "b\n"),
            (1, "redirect", "Bs", None),
            (2, "article", "C", "c\n"),
            (2, "cut off page", None, None),
        ]
    counted = tally.table(found, "dump", "kind")
    assert counted[0] == {"dump": 0, "kind": "article", "count": 1}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (bz2.compress(b"<mediawiki><dbname>dewiki</dbname>"), "a dump of dewiki, not of enwiki"),
        (b"<mediawiki><dbname>dewiki</dbname>", "set derive.dbname = 'dewiki'"),
        (bz2.compress(b"hello"), "not a MediaWiki XML dump in UTF-8"),
    ],
)
def test_a_file_that_is_no_english_dump_is_refused(
    spark: SparkSession, tmp_path: Path, content: bytes, told: str
) -> None:
    path = tmp_path / "d.xml.bz2"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=told):
        dump.pages(spark, [str(path)], "enwiki", 1 << 20)


def test_a_dump_that_is_damaged_from_its_beginning_on_is_read_behind_that(
    spark: SparkSession, tmp_path: Path
) -> None:
    noise = random.Random(0).randbytes(600_000).hex()
    path = Path(write_dump(tmp_path / "d.bz2", page("A", noise), page("B", "b " * 200_000)))
    raw = bytearray(path.read_bytes())
    raw[2000] ^= 1
    path.write_bytes(raw)
    kinds = {row["kind"] for row in dump.pages(spark, [str(path)], "enwiki", 1 << 20).collect()}
    assert kinds == {"unreadable block", "article"}
