"""queries: dump, words, bigrams, titles, wordnet"""

import bz2
import gzip
import re
from collections import Counter
from itertools import pairwise
from math import log2
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from pipeline.errors import BadInput
from queries import bigrams, dump, tally, titles, wordnet, words
from queries.dump import parse

_HEAD = "<mediawiki><siteinfo><dbname>enwiki</dbname></siteinfo>\n"


def _page(title: str, text: str = "", ns: int = 0, target: str | None = None) -> str:
    redirect = "" if target is None else f'<redirect title="{target}" />'
    return (
        f"<page><title>{title}</title><ns>{ns}</ns>{redirect}"
        f'<revision><text bytes="1" xml:space="preserve">{text}</text></revision></page>\n'
    )


_TEXTS = ["red circle and red square\ncircle", "a [[red]] circle", "blue &amp;amp; red circle"]


def _dump(path: Path) -> Path:
    pages = [_page(f"T{i}", text) for i, text in enumerate(_TEXTS)]
    pages += [_page("Talk:T", "not this", ns=1), _page("Circles", target="Circle")]
    path.write_bytes(bz2.compress((_HEAD + "".join(pages)).encode()))  # no </mediawiki>
    return path


def test_a_page_is_told_by_its_kind() -> None:
    assert parse(_page("A &amp; B", "x '''y'''"))[:3] == ("article", "A & B", None)
    assert parse(_page("A", target="B &amp; C"))[:3] == ("redirect", "A", "B & C")
    assert parse(_page("Talk:A", "x", ns=1))[0] == "other namespace"
    assert parse("</mediawiki>")[0] == "no page"
    assert parse("<page><title>A</title><ns>0</ns><text/></page>")[0] == "no text"
    assert "cut off" in str(parse("<page><title>A</title><ns>0</ns><text>cut off")[3])


def test_words_and_bigrams_are_those_of_an_independent_count(
    spark: SparkSession, tmp_path: Path
) -> None:
    pages = dump.pages(spark, [str(_dump(tmp_path / "d.xml.bz2"))], "enwiki")
    assert tally.by(pages, "kind") == {"article": 3, "other namespace": 1, "redirect": 1}
    lines = ["red circle and red square", "circle", "a red circle", "blue", "red circle"]
    by_hand = Counter(word for line in lines for word in re.findall(r"\w+", line))
    assert tally.counts(words.words(pages)) == by_hand
    pairs = Counter(f"{a} {b}" for line in lines for a, b in pairwise(line.split()))
    found = tally.counts(bigrams.bigrams(pages, dict(by_hand), 2))
    # "blue & red" is one line of text: the sign is no word.
    assert found == {pair: n for pair, n in pairs.items() if n >= 2}


def test_pmi_is_the_log_of_how_much_more_often_two_words_meet_than_by_chance() -> None:
    assert bigrams.pmi(10, 20, 50, 1000) == pytest.approx(
        log2((10 / 1000) / ((20 / 1000) * (50 / 1000)))
    )


def test_the_best_bigrams_are_those_of_highest_pmi_and_ties_fall_by_text() -> None:
    vocabulary = {"a": 10, "b": 10, "c": 100}
    counts = {"a c": 5, "b a": 5, "a b": 5}
    assert [text for text, _ in bigrams.best(counts, vocabulary, 1000, 2)] == ["a b", "b a"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"<mediawiki><dbname>dewiki</dbname>", "a dump of dewiki, not of enwiki"),
        (b"hello", "not a MediaWiki XML dump"),
    ],
)
def test_a_file_that_is_no_english_dump_is_refused(
    spark: SparkSession, tmp_path: Path, content: bytes, told: str
) -> None:
    path = tmp_path / "d.xml.bz2"
    path.write_bytes(bz2.compress(content))
    with pytest.raises(BadInput, match=told):
        dump.pages(spark, [str(path)], "enwiki")
    path.write_bytes(b"BZh9 broken")
    with pytest.raises(BadInput, match="fetch it again"):
        dump.pages(spark, [str(path)], "enwiki")


def test_views_are_summed_over_domains_and_redirects(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "pageviews-1.gz"
    lines = [
        "en Circle 5 0",
        "en.m Circle 2 0",
        "en Circles 4 0",
        "en Caf%C3%A9_au_lait 3 0",
        "de Circle 100 0",
        "en Talk:Circle 9 0",
        "en Main_Page 1000 0",
        "en Circle",
        "en Circle many 0",
    ]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    seen = titles.views(spark, [str(path)], ["en", "en.m"])
    assert tally.by(seen, "reason") == {
        "kept": 4,
        "main page": 1,
        "malformed line": 2,
        "other domain": 1,
        "other namespace": 1,
    }
    pages = dump.pages(spark, [str(_dump(tmp_path / "d.xml.bz2"))], "enwiki")
    assert tally.counts(titles.titles(seen, pages)) == {"Café au lait": 3, "Circle": 11}


def test_a_disambiguated_title_is_its_name() -> None:
    assert titles.above({"Mercury (planet)": 9, "Rare": 1}, 2) == [("Mercury", 9.0)]
    assert titles.without_suffix("(What's the Story)") == "(What's the Story)"


_SYNSET = "00001740 03 {kind} 02 {name} 0 other 0 000 | a gloss"


def _wordnet(folder: Path) -> Path:
    for kind, name in (
        ("noun", "red_kite"),
        ("verb", "St._Louis"),
        ("adj", "alive(p)"),
        ("adv", "a"),
    ):
        line = _SYNSET.format(kind=kind[0], name=name)
        (folder / f"data.{kind}").write_text(f"  1 licence\n{line}\n{line}\n")
    return folder


def test_a_synset_is_named_by_its_first_lemma(tmp_path: Path) -> None:
    assert wordnet.synset_names(str(_wordnet(tmp_path))) == ["red kite", "St. Louis", "alive", "a"]


def test_a_missing_wordnet_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="apt-get install wordnet-base"):
        wordnet.synset_names(str(tmp_path))
    (_wordnet(tmp_path) / "data.noun").write_text("garbage\n")
    with pytest.raises(BadInput, match="line 1 is not a synset"):
        wordnet.synset_names(str(tmp_path))
