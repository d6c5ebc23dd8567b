"""queries.combine"""

from typing import Any

from queries.combine import combine

_OFFERED: dict[str, Any] = {
    "word": [("red", 5), ("the", 9)],
    "bigram": [("red kite", 3.5)],
    "title": [("The", 100.0), ("Blue Kite", 50.0), ("Green", 70.0), ("…", 60.0)],
    "wordnet": [("red kite", None), ("kite", None)],
}


def test_the_list_stands_in_the_order_of_its_sources_and_each_form_once() -> None:
    table, rows_in, dropped = combine(_OFFERED, 100, 32)
    assert table.column("query").to_pylist() == [
        "the",
        "red",
        "red kite",
        "green",
        "blue kite",
        "kite",
    ]
    assert table.column("query_id").to_pylist() == list(range(6))
    assert rows_in == 9
    assert dropped == {"in the list already": 2, "empty after normalising": 1}
    assert rows_in == table.num_rows + sum(dropped.values())


def test_a_query_remembers_every_source_that_has_it() -> None:
    table, _, _ = combine(_OFFERED, 100, 32)
    rows = {row["query"]: row for row in table.to_pylist()}
    assert rows["red kite"]["sources"] == ["bigram", "wordnet"]
    assert rows["the"]["source"] == "word"


def test_titles_give_way_when_the_budget_is_short() -> None:
    table, _, dropped = combine(_OFFERED, 5, 32)
    assert table.column("query").to_pylist() == ["the", "red", "red kite", "green", "kite"]
    assert dropped["over the budget"] == 1


def test_a_name_of_too_many_words_is_left_out_and_counted() -> None:
    table, _, dropped = combine({"title": [("a b c", 2.0), ("a b", 1.0)]}, 100, 2)
    assert table.column("query").to_pylist() == ["a b"]
    assert dropped == {"too many tokens": 1}
