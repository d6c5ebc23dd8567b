"""pipeline.card"""

import yaml

from pipeline.card import card


def _described(text: str) -> dict[str, dict[str, str]]:
    told = yaml.safe_load(text.split("---")[1])
    assert told["configs"][0]["data_files"] == [{"split": "train", "path": "*.tar"}]
    (described,) = [f for f in told["dataset_info"]["features"] if f["name"] == "json"]
    return {field.pop("name"): field for field in described["struct"]}


def test_each_column_of_the_json_has_the_type_of_the_schema() -> None:
    names = ("query_ids", "page_url", "width")
    assert _described(card(names)) == {
        "page_url": {"dtype": "string"},
        "query_ids": {"list": "int32"},
        "width": {"dtype": "int32"},
    }


def test_alternatives_are_told_only_where_they_are_kept() -> None:
    assert "alternatives" not in _described(card(("url",)))
    assert _described(card(("url",), alternatives=True))["alternatives"] == {"list": "string"}
