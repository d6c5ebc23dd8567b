"""jobs.derive, jobs.sources"""

import bz2
import gzip
import hashlib
import os
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs import sources, walk
from jobs.run import Run
from pipeline.errors import BadInput
from pipeline.text import tokens
from queries.wikitext import strip
from tests.queries.wiki import page, write_dump, write_wordnet

_SENTENCES = [
    f"The '''red kite''' number {n} is a [[bird|bird of prey]] near {n % 3} New York houses."
    for n in range(60)
]


def _settings(folder: Path, *lines: str) -> Path:
    pages = [page(f"T{n}", text) for n, text in enumerate(_SENTENCES)]
    write_dump(folder / "enwiki-1.xml.bz2", *pages, page("Raptor", target="Bird of prey"))
    write_dump(folder / "enwiki-2.xml.bz2", page("Kite", "A kite flies.\n" * 30))
    views = ["en Raptor 5 0", "en Bird_of_prey 5 0", "en.m New_York_(city) 9 0", "de Vogel 3 0"]
    (folder / "pageviews.gz").write_bytes(gzip.compress("\n".join(views).encode()))
    write_wordnet(folder / "wordnet", "kite", "bird_of_prey", "glide", "red(a)", "by_air")
    (folder / "blocked.txt").write_text("* near *\n")
    path = folder / "settings.toml"
    path.write_text(
        "\n".join(
            [
                "[derive]",
                f'dumps = ["{folder}/enwiki-*.xml.bz2"]',
                f'pageviews = ["{folder}/pageviews.gz"]',
                f'wordnet = "{folder}/wordnet"',
                f'blocklist = "{folder}/blocked.txt"',
                "min_word_count = 20",
                "min_bigram_count = 20",
                *lines,
            ]
        )
    )
    return path


@pytest.fixture
def partitions(spark: SparkSession) -> Iterator[SparkSession]:
    """A session whose partitions are set by the test, and set back behind it."""
    before = spark.conf.get("spark.sql.shuffle.partitions")
    yield spark
    spark.conf.set("spark.sql.shuffle.partitions", str(before))


def test_the_list_is_the_same_bytes_for_any_partitions_and_splits(
    partitions: SparkSession, tmp_path: Path
) -> None:
    config = _settings(tmp_path)
    digests, tables = set(), []
    for number, split_bytes in ((1, 1 << 25), (7, 1000), (64, 90)):
        partitions.conf.set("spark.sql.shuffle.partitions", str(number))
        run = Run.open(tmp_path / f"run-{number}", config, [f"derive.split_bytes={split_bytes}"])
        walk.one(run, "derive")
        digests.add(hashlib.sha256(run.files("queries")[0].read_bytes()).hexdigest())
        names = ("words", "bigrams", "titles")
        tables.append([sorted(run.read_arrow(name).to_pylist(), key=str) for name in names])
    assert len(digests) == 1
    assert tables[0] == tables[1] == tables[2]
    rows = {row["query"]: row for row in run.read_arrow("queries").to_pylist()}
    assert rows["red kite"]["source"] == "bigram"
    assert rows["bird of prey"]["sources"] == ["wordnet", "title"]
    assert rows["new york"]["sources"] == ["bigram", "title"]
    assert rows["kite"]["sources"] == ["word", "wordnet"]
    assert not any("near" in query.split() for query in rows)
    manifest = run.manifest("queries")
    assert manifest["notes"]["pages"] == {"article": 61, "redirect": 1}
    assert manifest["dropped"]["blocked"] >= 2
    titles = {row["title"]: row for row in run.read_arrow("titles").to_pylist()}
    assert titles["Raptor"]["article"] == "Bird of prey"
    assert run.manifest("titles")["dropped"] == {"other domain": 1}


def test_what_is_lost_of_a_dump_is_told_and_the_rest_is_read(
    spark: SparkSession, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = _settings(tmp_path)
    first = tmp_path / "enwiki-1.xml.bz2"
    cut = tmp_path / "enwiki-20240101-pages-articles-multistream.xml.bz2"
    text = bz2.decompress(first.read_bytes())
    cut.write_bytes(bz2.compress(text[:-100].replace(b"prey", b"pr\xffy", 1)))
    index = tmp_path / "enwiki-20240101-pages-articles-multistream-index.txt.bz2"
    index.write_bytes(bz2.compress(b"".join(b"500:%d:T: %d\n" % (n, n) for n in range(61))))
    run = Run.open(tmp_path / "run", config, [f"derive.dumps={[str(cut)]}"])
    walk.one(run, "derive")
    notes = run.manifest("queries")["notes"]
    assert notes["pages"] == {"article": 60, "cut off page": 1}
    assert notes["mended_utf8"] == 1
    assert notes["index"] == {str(cut): {"listed": 61, "read": 60}}
    told = capfd.readouterr().err
    assert f"{cut} is not whole (cut off page 1): the rest is read" in told
    assert f"{cut} holds 60 pages, its index lists 61" in told
    index.write_bytes(b"no index")
    walk.one(run, "derive", again=True)
    assert "fetch the index again" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("derive.dumps=[]", "derive.dumps is empty"),
        ("derive.dumps=['/nowhere/*.bz2']", r"/nowhere/\*.bz2 does not exist"),
        ("derive.domains=['fr']", "no line is of an article .other domain 4."),
    ],
)
def test_sources_that_give_nothing_are_named(
    spark: SparkSession, tmp_path: Path, setting: str, told: str
) -> None:
    run = Run.open(tmp_path / "run", _settings(tmp_path), [setting])
    with pytest.raises(BadInput, match=told):
        walk.one(run, "derive")


def test_a_dump_of_redirects_alone_has_no_article(spark: SparkSession, tmp_path: Path) -> None:
    path = write_dump(tmp_path / "d.bz2", page("A", target="B"))
    run = Run.open(tmp_path / "run", _settings(tmp_path), [f"derive.dumps={[path]}"])
    with pytest.raises(BadInput, match="no article in"):
        walk.one(run, "derive")


def test_a_star_stands_for_any_file_and_each_comes_once(tmp_path: Path) -> None:
    for name in ("b.gz", "a.gz", "c*.gz"):
        (tmp_path / name).write_text("")
    found = sources.expand([f"{tmp_path}/c*.gz", f"{tmp_path}/*.gz", "/nowhere.gz", "/no/*"])
    assert found == [f"{tmp_path}/{n}" for n in ("c*.gz", "a.gz", "b.gz")] + [
        "/nowhere.gz",
        "/no/*",
    ]


def test_a_finished_list_is_told_as_stale_and_no_more_when_its_sources_are_gone(
    spark: SparkSession, tmp_path: Path
) -> None:
    run = Run.open(tmp_path / "run", _settings(tmp_path), [])
    walk.one(run, "derive")
    for path in tmp_path.glob("enwiki-*"):
        path.unlink()
    assert walk.stale(run)[0].verb == "derive"
    with pytest.raises(BadInput, match="does not exist"):
        walk.one(run, "derive")


def test_words_of_real_excerpts_are_those_of_an_independent_count(
    spark: SparkSession, tmp_path: Path
) -> None:
    data = Path(os.environ.get("WIT_DATA", "")) / "wiki"
    excerpts = sorted(data.glob("enwiki-2*-pages-articles.xml.bz2"))
    if not excerpts:
        pytest.skip("no excerpts of Wikipedia: set WIT_DATA to a folder with wiki/ in it")
    by_hand: Counter[str] = Counter()
    for path in excerpts:
        text = bz2.decompress(path.read_bytes()).decode()
        if "</mediawiki>" not in text:
            text += "</mediawiki>"
        text = re.sub(r'\sxmlns="[^"]*"', "", text, count=1)
        for found in ET.fromstring(text).iter("page"):  # noqa: S314
            if found.findtext("ns") == "0" and found.find("redirect") is None:
                by_hand.update(tokens(strip(found.findtext("revision/text") or "")))
    config = _settings(tmp_path)
    run = Run.open(tmp_path / "run", config, [f"derive.dumps={[str(path) for path in excerpts]}"])
    walk.one(run, "derive")
    counted = {row["word"]: row["count"] for row in run.read_arrow("words").to_pylist()}
    assert counted == by_hand
