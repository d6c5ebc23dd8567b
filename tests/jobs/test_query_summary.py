"""jobs.query_summary: what the report says of the list of queries."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jobs.ledger import Ledger
from jobs.query_summary import places, summary
from jobs.report import write_report
from jobs.run import Run
from pipeline.schemas import QUERIES, TITLES
from pipeline.settings import DeriveSettings, Settings


def _run(
    tmp_path: Path, *, notes: dict[str, Any] | None = None, dropped: dict[str, int] | None = None
) -> Run:
    """A run of twenty words, two bigrams and one title."""
    words = [(n, f"w{n}", "word", n + 1, 200.0 - n, ["word"]) for n in range(20)]
    bigrams = [(20 + n, f"w{n} w0", "bigram", n + 1, 3.5 - n, ["bigram"]) for n in range(2)]
    rows = [*words, *bigrams, (22, "axolotl", "title", 1, 41.0, ["title"])]
    queries = pa.table([list(column) for column in zip(*rows, strict=True)], schema=QUERIES)
    run, lost = Run(tmp_path, Settings(derive=DeriveSettings(min_title_views=40))), dropped or {}
    settings = {"derive": run.settings.derive.model_dump()}
    with run.stage("derive", settings, {}):
        rows_in = queries.num_rows + sum(lost.values())
        ledger = Ledger(rows_in, queries.num_rows, lost, notes or {})
        run.write_arrow("queries", queries, ledger)
    return run


def _chosen(told: dict[str, Any], name: str) -> str:
    return next(source["chosen"] for source in told["sources"] if source["name"] == name)


def _read(told: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {line.label: (line.good, line.bad) for line in told["read"]}


@pytest.mark.parametrize(
    ("rows", "shown"),
    [(0, []), (1, [0]), (2, [0, 1]), (3, [0, 1, 2]), (4, [0, 1, 2, 3]), (102, [0, 1, 27, 77])],
)
def test_the_rest_of_a_source_is_shown_from_evenly_spread_places(
    rows: int, shown: list[int]
) -> None:
    assert places(rows, shown=2) == shown


def test_a_run_without_notes_is_told_by_its_rows_alone(tmp_path: Path) -> None:
    told = summary(_run(tmp_path))
    assert [(s["name"], s["taken"], s["offered"]) for s in told["sources"]] == [
        ("word", 20, 20),
        ("bigram", 2, 2),
        ("title", 1, 1),
    ]
    assert _chosen(told, "word") == "down to 181 occurrences (at least 100)"
    assert _chosen(told, "bigram") == "down to a PMI of 2.50 (at least 0, the best 100,000)"
    assert _chosen(told, "title") == "down to 41 views (at least 40); 0 names over the budget"
    assert told["read"] == []


def test_each_source_is_told_where_it_ends_and_among_how_many(tmp_path: Path) -> None:
    notes = {
        "distinct_words": 5000,
        "bigrams": 700,
        "titles": {"articles": 90, "above volume": 30, "queries": 28},
        "offered": {"word": 20, "bigram": 2, "wordnet": 3, "integer": 0, "title": 25},
    }
    told = summary(_run(tmp_path, notes=notes, dropped={"over the budget": 22}))
    assert _chosen(told, "word").endswith("; of 5,000 distinct words")
    assert _chosen(told, "bigram").endswith("; of 700 side by side at least 100 times")
    assert _chosen(told, "title") == (
        "down to 41 views (at least 40, as 30 of 90 viewed articles have); 25 names over the budget"
    )
    assert _chosen(told, "wordnet") == "none was taken"
    assert "integer" not in [source["name"] for source in told["sources"]]


def test_what_was_lost_of_the_dumps_stands_apart(tmp_path: Path) -> None:
    notes = {
        "pages": {"article": 9, "cut off page": 1, "redirect": 12},
        "mended_utf8": 2,
        "index": {
            "/d/one.bz2": {"listed": 12, "read": 12},
            "/d/two.bz2": {"listed": 11, "read": 9},
        },
        "tokens": 1234,
        "distinct_words": 99,
    }
    assert _read(summary(_run(tmp_path, notes=notes))) == {
        "pages of the dumps": ("redirect 12, article 9", "mended UTF-8 2, cut off page 1"),
        "multistream index": ("1 of 2 dumps hold the 12 pages listed", "two.bz2 holds 9 of 11"),
        "text of the articles": ("1,234 words, 99 distinct", ""),
    }


def test_the_lines_of_the_pageview_files_add_up(tmp_path: Path) -> None:
    run = _run(tmp_path)
    rows = pa.table([["A"], ["A"], ["a"], [41]], schema=TITLES)
    with run.stage("derive", {}, {}):
        run.write_arrow("titles", rows, Ledger(10, 1, {"duplicate": 3, "other domain": 6}))
    told = _read(summary(run))["pageview files"]
    assert told == ("10 lines: 4 of 1 titles, other domain 6", "")


def test_the_page_shows_the_section_with_its_samples(tmp_path: Path) -> None:
    page = write_report(_run(tmp_path)).read_text(encoding="utf-8")
    assert "23 queries of the 500,000 that the list may hold" in page
    assert "w0 · w1 · w2" in page
    assert "w8 · w10 · w11" in page
