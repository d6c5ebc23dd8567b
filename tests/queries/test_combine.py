"""queries.combine"""

from typing import Any

from queries.blocklist import Blocklist
from queries.combine import INTEGERS, combine

_FREE = Blocklist({}, {})

_OFFERED: dict[str, Any] = {
    "word": [("the", 9), ("red", 5)],
    "bigram": [("red kite", 3.5)],
    "title": [("The", 100.0), ("Green", 70.0), ("…", 60.0), ("Blue Kite", 50.0)],
    "wordnet": [("red kite", None), ("kite", None)],
}


def test_the_list_stands_in_the_order_of_its_sources_and_each_form_once() -> None:
    table, rows_in, dropped = combine(_OFFERED, _FREE, 100, 32)
    assert table.column("query").to_pylist() == [
        "the",
        "red",
        "red kite",
        "green",
        "blue kite",
        "kite",
    ]
    assert table.column("query_id").to_pylist() == list(range(6))
    assert table.column("rank").to_pylist() == [1, 2, 1, 1, 2, 1]
    assert rows_in == 9
    assert dropped == {"in the list already": 2, "empty after normalising": 1}
    assert rows_in == table.num_rows + sum(dropped.values())


def test_a_query_remembers_every_source_that_has_it() -> None:
    table, _, _ = combine(_OFFERED, _FREE, 100, 32)
    rows = {row["query"]: row for row in table.to_pylist()}
    assert rows["red kite"]["sources"] == ["bigram", "wordnet"]
    assert rows["the"]["source"] == "word"


def test_titles_give_way_when_the_budget_is_short() -> None:
    table, _, dropped = combine(_OFFERED, _FREE, 5, 32)
    assert table.column("query").to_pylist() == ["the", "red", "red kite", "green", "kite"]
    assert dropped["over the budget"] == 1


def test_a_name_of_too_many_words_is_left_out_and_counted() -> None:
    table, _, dropped = combine({"title": [("a b c", 2.0), ("a b", 1.0)]}, _FREE, 100, 2)
    assert table.column("query").to_pylist() == ["a b"]
    assert dropped == {"too many tokens": 1}


def test_a_blocked_query_is_left_out_whatever_offers_it() -> None:
    blocked = Blocklist({"the": "the"}, {"kite": "* kite *"})
    table, rows_in, dropped = combine(_OFFERED, blocked, 100, 32)
    assert table.column("query").to_pylist() == ["red", "green"]
    assert dropped["blocked"] == 6
    assert rows_in == table.num_rows + sum(dropped.values())


def test_integers_come_last_and_only_those_that_are_no_words() -> None:
    offered: dict[str, Any] = {"word": [("7", 200.0)], "integer": [(n, None) for n in INTEGERS]}
    table, _, dropped = combine(offered, _FREE, 1000, 32)
    assert table.column("query").to_pylist() == ["7", *(n for n in INTEGERS if n != "7")]
    assert table.column("sources").to_pylist()[0] == ["word", "integer"]
    assert dropped == {"in the list already": 1}
