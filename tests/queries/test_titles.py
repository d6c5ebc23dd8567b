"""queries.titles"""

import gzip
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from pipeline.errors import BadInput
from queries import dump, titles
from tests.queries.wiki import page, write_dump


def _pageviews(path: Path, *lines: str) -> str:
    path.write_bytes(gzip.compress("\n".join(lines).encode("utf-8", "surrogateescape")))
    return str(path)


_HOURS = (
    (
        "en Circle 5 0",
        "en.m circle 2 0",
        "en Rings 4 0",
        "en Hoops 1 0",
        "en Caf%C3%A9_au_lait 3 0",
        "de Circle 100 0",
        "en Talk:Circle 9 0",
        "en Main_Page 1000 0",
        "en Circle",
        "en Circle many 0",
        "en.wikipedia Circle 1 desktop 5 A1B2",
    ),
    ("en Circle 10 0", "en Mercury_(planet) 7 0", "en Mercury_(element) 6 0", "en … 8 0"),
)


def _found(spark: SparkSession, folder: Path) -> titles.DataFrame:
    paths = [_pageviews(folder / f"{n}.gz", *lines) for n, lines in enumerate(_HOURS)]
    path = write_dump(
        folder / "d.xml.bz2",
        page("Circle", "round"),
        page("Rings", target="Circle"),
        page("Hoops", target="Rings"),  # a redirect to a redirect
    )
    pages = dump.pages(spark, [path], "enwiki", 1 << 20)
    return titles.titles(titles.views(spark, paths, ["en", "en.m"]), pages)


def test_views_are_summed_over_hours_domains_and_redirects(
    spark: SparkSession, tmp_path: Path
) -> None:
    found = _found(spark, tmp_path).cache()
    kept = {row["title"]: row for row in found.where("dropped_for is null").collect()}
    assert {title: (row["article"], row["views"]) for title, row in kept.items()} == {
        "Circle": ("Circle", 17),
        "Rings": ("Circle", 4),
        "Hoops": ("Circle", 1),
        "Café au lait": ("Café au lait", 3),
        "Mercury (planet)": ("Mercury (planet)", 7),
        "Mercury (element)": ("Mercury (element)", 6),
        "…": ("…", 8),
    }
    assert kept["Mercury (planet)"]["query"] == "mercury"
    best, counts = titles.best(found.where("dropped_for is null"), 4, 10)
    assert best.to_pylist() == [
        {"query": "circle", "views": 22},
        {"query": "mercury", "views": 7},
    ]
    assert counts == {"articles": 5, "above volume": 4, "queries": 2}
    assert titles.best(found.where("dropped_for is null"), 1, 1)[0].num_rows == 1


def test_every_line_that_is_no_articles_is_counted_by_its_reason(
    spark: SparkSession, tmp_path: Path
) -> None:
    found = _found(spark, tmp_path)
    rows = found.where("dropped_for is not null").collect()
    assert {row["dropped_for"]: row["rows"] for row in rows} == {
        "main page": 1,
        "malformed line": 3,
        "other domain": 1,
        "other namespace": 1,
    }
    assert sum(row["rows"] for row in found.collect()) == sum(len(lines) for lines in _HOURS)


@pytest.mark.parametrize(
    ("sent", "spelt"),
    [
        ("iPhone_4", "IPhone 4"),
        ("ßA", "ßA"),
        ("100%_(song)", "100% (song)"),
        ("%E2%80%A6", "…"),
        ("%ff", "\ufffd"),
        ("_", ""),
    ],
)
def test_a_title_is_spelt_as_wikipedia_does(sent: str, spelt: str) -> None:
    assert titles.spelt(sent) == spelt


def test_a_disambiguated_title_is_its_name() -> None:
    assert titles.without_suffix("Mercury (planet)") == "Mercury"
    assert titles.without_suffix("(What's the Story)") == "(What's the Story)"


def test_a_missing_pageview_file_is_named(spark: SparkSession) -> None:
    with pytest.raises(BadInput, match=r"derive.pageviews: /nowhere.gz does not exist"):
        titles.views(spark, ["/nowhere.gz"], ["en"])
