"""jobs.explain: why a text is in the list of queries, or is not."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jobs.__main__ import app
from jobs.explain import Explanation, explain, show
from jobs.ledger import Ledger
from jobs.run import Run
from jobs.walk import STAGES
from pipeline.errors import BadInput, MissingTable
from pipeline.schemas import TABLES
from pipeline.settings import DeriveSettings, Settings

_WORDS = [("united", 500), ("states", 400), ("mercury", 37), ("once", 1), ("of", 900)]
_BIGRAMS = [("united states", 150, 9.25), ("of states", 130, 1.5), ("states of", 120, 1.5)]
_TITLES = [
    ("United States", "United States", "united states", 30),
    ("USA", "United States", "united states", 12),
    ("Mercury (planet)", "Mercury (planet)", "mercury", 20),
    ("Mercury (element)", "Mercury (element)", "mercury", 25),
    ("Planet Mercury", "Mercury (planet)", "mercury", 7),
    ("Axolotl", "Axolotl", "axolotl", 6),
    ("E.T. (film)", "E.T. the Extra-Terrestrial", "e t the extra terrestrial", 1),
]
_QUERIES = [
    (0, "of", "word", 1, 900.0, ["word"]),
    (1, "united states", "bigram", 1, 9.25, ["bigram", "title"]),
    (2, "mercury", "title", 1, 27.0, ["title"]),
    (3, "entity", "wordnet", 1, None, ["wordnet"]),
]


def _run(tmp_path: Path, **derive: Any) -> Run:
    """A run whose list is full; its tables are not worked out, but written as they stand."""
    asked = {"pageviews": ["views"], "max_bigrams": 1, "max_queries": len(_QUERIES), **derive}
    run = Run(tmp_path / "run", Settings(derive=DeriveSettings(**asked)))
    rows = {"words": _WORDS, "bigrams": _BIGRAMS, "titles": _TITLES, "queries": _QUERIES}
    with run.stage("derive", STAGES[0].settings(run.settings), STAGES[0].inputs(run)):
        for name, of_table in rows.items():
            columns = [list(column) for column in zip(*of_table, strict=True)]
            table = pa.table(columns, schema=TABLES[name].schema)
            run.write_arrow(name, table, Ledger(table.num_rows, table.num_rows))
    return run


def _why(told: Explanation, source: str) -> str:
    return next(f"{line.state}: {line.why}" for line in told.evidence if line.source == source)


def test_a_query_of_the_list_comes_with_its_place_and_all_who_offer_it(tmp_path: Path) -> None:
    told = explain(_run(tmp_path), "United  States!")
    assert told.verdict == (
        "in the list: query_id 1, from bigram (rank 1 of 1), score 9.25; also offered by title"
    )
    assert told.remarks == ['looked for as "united states"']


def test_a_query_without_a_score_is_told_without_one(tmp_path: Path) -> None:
    told = explain(_run(tmp_path), "entity")
    assert told.verdict == "in the list: query_id 3, from wordnet (rank 1 of 1)"
    assert told.remarks == []


def test_what_is_nothing_after_normalising_is_no_query(tmp_path: Path) -> None:
    told = explain(_run(tmp_path), "!?")
    assert told.verdict.startswith("not in the list: it holds no letter and no number")
    assert told.evidence == []


def test_a_text_of_too_many_tokens_is_told_how_many_it_may_have(tmp_path: Path) -> None:
    told = explain(_run(tmp_path, max_query_tokens=2), "of united states")
    assert told.verdict == (
        "not in the list: it has 3 tokens, 2 at most are taken (derive.max_query_tokens)"
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("of", "offers it: occurs 900 times; 100 needed (derive.min_word_count)"),
        ("mercury", "does not: occurs 37 times; 100 needed (derive.min_word_count)"),
        ("once", "does not: occurs 1 time; 100 needed (derive.min_word_count)"),
        ("axolotl", "does not: occurs 0 times; 100 needed (derive.min_word_count)"),
        ("united states", "does not: it is 2 words, not one"),
    ],
)
def test_a_word_is_told_how_often_it_occurs(tmp_path: Path, text: str, why: str) -> None:
    assert _why(explain(_run(tmp_path), text), "word") == why


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("of", "does not: it is not two words"),
        (
            "mercury once",
            'does not: "mercury" occurs 37 times and "once" occurs 1 time; '
            "100 needed of each (derive.min_word_count)",
        ),
        ("of axolotl", 'does not: "axolotl" occurs 0 times; 100 needed of each (derive.min_w'),
        (
            "united of",
            "does not: stands side by side fewer than 100 times (derive.min_bigram_count)",
        ),
        (
            "united states",
            "offers it: occurs 150 times; PMI 9.25, 0 needed (derive.min_pmi); rank 1 of 3, ",
        ),
        (
            "of states",
            "does not: occurs 130 times; PMI 1.50, 0 needed (derive.min_pmi); rank 2 of 3, ",
        ),
        (
            "states of",
            "does not: occurs 120 times; PMI 1.50, 0 needed (derive.min_pmi); rank 3 of 3, ",
        ),
    ],
)
def test_a_bigram_is_told_the_first_rule_that_it_fails(tmp_path: Path, text: str, why: str) -> None:
    assert _why(explain(_run(tmp_path), text), "bigram").startswith(why)


def test_a_bigram_beyond_the_best_is_told_where_these_end(tmp_path: Path) -> None:
    told = explain(_run(tmp_path, max_bigrams=2), "states of")
    assert _why(told, "bigram").endswith(
        "the best 2 offered (derive.max_bigrams), down to a PMI of 1.50"
    )


def test_a_bigram_of_too_low_a_pmi_is_not_offered_though_there_is_room(tmp_path: Path) -> None:
    told = explain(_run(tmp_path, max_bigrams=3, min_pmi=2.0), "of states")
    assert _why(told, "bigram") == (
        "does not: occurs 130 times; PMI 1.50, 2 needed (derive.min_pmi); rank 2 of 3, "
        "the best 3 offered (derive.max_bigrams)"
    )


def test_no_bigram_is_offered_where_none_is_asked_for(tmp_path: Path) -> None:
    why = _why(explain(_run(tmp_path, max_bigrams=0), "united states"), "bigram")
    assert why.startswith("does not: ")
    assert why.endswith("the best 0 offered (derive.max_bigrams)")


def test_an_article_counts_the_views_of_the_redirects_to_it(tmp_path: Path) -> None:
    assert _why(explain(_run(tmp_path), "united states"), "title") == (
        'offers it: "United States" has 42 views, 12 of them by "USA"; '
        "1 needed (derive.min_title_views)"
    )


def test_of_several_articles_of_one_name_each_is_told_the_most_viewed_first(
    tmp_path: Path,
) -> None:
    assert _why(explain(_run(tmp_path), "mercury"), "title").splitlines() == [
        'offers it: "Mercury (planet)" has 27 views, 7 of them by "Planet Mercury"',
        '"Mercury (element)" has 25 views',
        "the most viewed of them counts; 1 needed (derive.min_title_views)",
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("usa", 'does not: "USA" is a redirect: 12 views for "United States"'),
        ("e t", 'does not: "E.T. (film)" is a redirect: 1 view for "E.T. the Extra-Terrestrial"'),
        ("mercury planet", 'does not: "Mercury (planet)" has 20 views, as the query "mercury"'),
        ("entity", "does not: no title that was viewed is called so"),
    ],
)
def test_a_title_that_gives_another_query_says_which(tmp_path: Path, text: str, why: str) -> None:
    assert _why(explain(_run(tmp_path), text), "title") == why


def test_a_title_below_the_volume_is_not_offered(tmp_path: Path) -> None:
    told = explain(_run(tmp_path, min_title_views=10), "axolotl")
    assert told.verdict == "not in the list: no source offers it"
    assert _why(told, "title") == (
        'does not: "Axolotl" has 6 views; 10 needed (derive.min_title_views)'
    )


def test_a_title_beyond_the_budget_is_told_the_views_of_the_last_one_taken(tmp_path: Path) -> None:
    assert explain(_run(tmp_path), "axolotl").verdict == (
        "not in the list: title offers it, but the budget of 4 was spent (derive.max_queries); "
        "the last title taken has 27 views"
    )


def test_what_the_tables_offer_and_the_list_lacks_points_to_other_files(tmp_path: Path) -> None:
    told = explain(_run(tmp_path, max_queries=5), "axolotl")
    assert told.verdict == (
        "not in the list: title offers it today, but the list was made from other files"
    )


def test_titles_without_pageviews_say_that_none_are_read(tmp_path: Path) -> None:
    told = explain(_run(tmp_path, pageviews=[]), "axolotl")
    assert _why(told, "title") == "does not: no pageviews are read (derive.pageviews)"


def test_a_synset_is_named_as_wordnet_spells_it(tmp_path: Path) -> None:
    for part in ("noun", "verb", "adj", "adv"):
        (tmp_path / f"data.{part}").write_text("00001740 15 n 01 New_York's 0 001 | a place\n")
    run = _run(tmp_path, wordnet=str(tmp_path))
    told = explain(run, "new york s")
    assert _why(told, "wordnet") == 'offers it: "New York\'s" is the first name of a synset'
    assert _why(explain(run, "york"), "wordnet").startswith("does not: no synset")


def test_a_wordnet_that_is_gone_leaves_the_answer_open(tmp_path: Path) -> None:
    told = explain(_run(tmp_path, wordnet=str(tmp_path / "gone")), "york")
    assert told.verdict == "not in the list: no source that can still be read offers it"
    assert _why(told, "wordnet").startswith("unknown: ")
    assert _why(explain(_run(tmp_path), "york"), "wordnet").startswith("does not: WordNet is not")


def test_an_integer_is_offered_only_where_the_settings_ask_for_integers(tmp_path: Path) -> None:
    assert "are no source" in _why(explain(_run(tmp_path), "7"), "integer")
    run = _run(tmp_path, integers=True)
    assert _why(explain(run, "7"), "integer") == "offers it: it is one of 0 to 99"
    assert _why(explain(run, "07"), "integer") == "does not: it is none of 0 to 99"


def test_a_blocked_query_is_told_the_line_that_blocks_it(tmp_path: Path) -> None:
    lines = tmp_path / "blocked.txt"
    lines.write_text("# of animals\n* axolotl *\n")
    run = _run(tmp_path, blocklist=str(lines))
    told = explain(run, "axolotl")
    line = f"the line `* axolotl *` of {lines}"
    assert told.verdict == f"not in the list: title offers it, but {line} blocks it"
    assert _why(told, "blocklist") == f"blocks it: {line}"
    assert _why(explain(run, "of"), "blocklist") == f"does not: no line of {lines} fits"
    lines.unlink()
    assert _why(explain(run, "of"), "blocklist").startswith("unknown: derive.blocklist: ")


def test_a_list_is_explained_by_the_settings_that_it_was_made_with(tmp_path: Path) -> None:
    made = _run(tmp_path)
    changed = Run(made.root, Settings(derive=DeriveSettings(min_word_count=10)))
    told = explain(changed, "mercury once")
    assert "100 needed of each" in _why(told, "bigram")
    assert "is out of date, and explained as it is" in told.remarks[0]


def test_sources_that_are_gone_do_not_stop_an_explanation(tmp_path: Path) -> None:
    made = _run(tmp_path)
    pattern = str(tmp_path / "dump*.bz2")
    moved = Run(made.root, Settings(derive=DeriveSettings(dumps=[pattern])))
    assert "the list is out of date" in explain(moved, "of").remarks[0]


def test_a_run_without_the_tables_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(MissingTable, match="run `wit derive"):
        explain(Run(tmp_path, Settings()), "of")


def test_an_explanation_is_printed_with_its_verdict_first_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = _run(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    show(run, "[usa]")
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[:2] == ["not in the list: no source offers it", 'looked for as "usa"']
    assert 'title      does not  "USA" is a redirect: 12 views for "United States"' in lines
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("flag", [["--again"], ["--update"], ["--set", "derive.max_bigrams=3"]])
def test_flags_that_make_something_are_refused_beside_explain(
    tmp_path: Path, flag: list[str]
) -> None:
    words = ["derive", "--run", str(tmp_path), "--explain", "of", *flag]
    with pytest.raises(BadInput, match="--explain makes nothing"):
        app(words, standalone_mode=False)
