"""queries: pageviews, titles"""

import gzip
from collections import Counter
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from pipeline.errors import BadInput
from queries import dump, pageviews, titles
from tests.queries.wiki import page, write_dump


def _hour(path: Path, *lines: str) -> str:
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
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
        "en User%3AFoo 9 0",
        "en MOS_talk:Foo 9 0",
        "en WP:ABC 9 0",
        "en P.S. 1 0",
        "en Style 2 0",
        "en Main_Page 1000 0",
        "en Main%20Page 1000 0",
        "en Circle",
        "en Circle many 0",
        "en Circle 1 x",
        "en Circle 99999999999 0",
        f"en {'a' * 256} 1 0",
        "en.wikipedia Circle 1 desktop 5 A1B2",
    ),
    ("en Circle 10 0", "en Mercury_(planet) 7 0", "en Mercury_(element) 6 0", "en … 8 0"),
)


def _found(spark: SparkSession, folder: Path) -> titles.DataFrame:
    paths = [_hour(folder / f"_{n}[1].gz", *lines) for n, lines in enumerate(_HOURS)]
    path = write_dump(
        folder / "d.xml.bz2",
        page("Circle", "round"),
        page("Rings", target="Circle"),
        page("Hoops", target="Rings"),  # a redirect to a redirect
        page("Style", target="Wikipedia:Manual of Style"),
    )
    pages = dump.pages(spark, [path], "enwiki", 1 << 20)
    views, broken = pageviews.views(spark, paths, ["en", "en.m"])
    found = titles.titles(views, pages)
    assert broken.value == frozenset()
    return found


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
        "P.S.": ("P.S.", 1),
        "…": ("…", 8),
    }
    assert kept["Mercury (planet)"]["query"] == "mercury"
    best, counts = titles.best(found.where("dropped_for is null"), 4, 10)
    assert best.to_pylist() == [
        {"query": "circle", "views": 22},
        {"query": "mercury", "views": 7},
    ]
    assert counts == {"articles": 6, "above volume": 4, "queries": 2}
    assert titles.best(found.where("dropped_for is null"), 1, 1)[0].num_rows == 1


def test_every_line_that_is_no_articles_is_counted_by_its_reason(
    spark: SparkSession, tmp_path: Path
) -> None:
    found = _found(spark, tmp_path).collect()
    reasons: Counter[str] = Counter()
    for row in found:
        reasons[row["dropped_for"] or ""] += row["rows"]
    assert reasons == {
        "": 10,
        "main page": 2,
        "malformed line": 6,
        "other domain": 1,
        "other namespace": 5,
    }
    assert reasons.total() == sum(len(lines) for lines in _HOURS)


def test_a_file_that_breaks_off_is_named_and_read_up_to_there(
    spark: SparkSession, tmp_path: Path
) -> None:
    whole = _hour(tmp_path / "a.gz", *(f"en T{n} {n} 0" for n in range(5000)))
    cut = tmp_path / "b.gz"
    cut.write_bytes(Path(whole).read_bytes()[:-5000])
    plain = tmp_path / "c"
    plain.write_text("en Circle 5 0\n")
    views, broken = pageviews.views(spark, [str(cut), str(plain)], ["en"])
    rows = views.collect()
    assert broken.value == frozenset([str(cut)])
    assert sum(row["rows"] for row in rows if row["dropped_for"] == "unreadable file") == 1
    kept = {row["title"] for row in rows if row["dropped_for"] is None}
    assert {"Circle", "T0", "T1"} < kept
    assert len(kept) < 5000


def test_a_task_hands_on_its_titles_when_it_has_no_more_room(
    tmp_path: Path, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pageviews, "_ROOM", 3)
    path = _hour(tmp_path / "a.gz", *(f"en T{n % 7} 1 0" for n in range(100)))
    broken = spark.sparkContext.accumulator(frozenset[str](), pageviews._Names())
    batches = list(pageviews._counted(path, frozenset([b"en"]), broken))
    assert len(batches) > 10
    views: Counter[str] = Counter()
    for batch in batches:
        for row in batch.to_pylist():
            views[row["title"]] += row["views"]
    assert views == Counter(f"T{n % 7}" for n in range(100))


def test_a_line_of_any_length_is_counted_once(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"en A 1 0\n" + b"x" * 5_000_000 + b"\nen B 1 0")
    lines = [line for line in pageviews._lines(str(path)) if line is not None]
    assert [lines[0], lines[-1]] == [b"en A 1 0", b"en B 1 0"]
    assert len(lines) == 3


@pytest.mark.parametrize(
    ("sent", "spelt"),
    [
        ("iPhone_4", "IPhone 4"),
        ("ßA", "ßA"),
        ("100%_(song)", "100% (song)"),
        ("%E2%80%A6", "…"),
        ("%ff", "\ufffd"),
        ("_", ""),
        ("%41" * 255, "A" * 255),
        ("%41" * 256, None),
    ],
)
def test_a_title_is_spelt_as_wikipedia_does(sent: str, spelt: str | None) -> None:
    assert pageviews.spelt(sent.encode()) == spelt


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Mercury (planet)", "Mercury"),
        ("(What's the Story)", "(What's the Story)"),
        ("A (b) c", "A (b) c"),
        ("F(x) (maths) ", "F(x)"),
        ("A (b) c)", "A (b) c)"),
        ("A)", "A)"),
    ],
)
def test_a_disambiguated_title_is_its_name(title: str, name: str) -> None:
    assert titles.without_suffix(title) == name


def test_pageview_files_are_checked_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"derive.pageviews: /nowhere.gz does not exist"):
        pageviews.check(["/nowhere.gz"])
    other = _hour(tmp_path / "a.gz", "en.wikipedia Circle 12 desktop 5 A5")
    with pytest.raises(BadInput, match="holds no line of `domain title views bytes`"):
        pageviews.check([other])
    pageviews.check([_hour(tmp_path / "b.gz", "# a comment", "en A 1 0"), other])
    pageviews.check([])
