"""queries.blocklist"""

from pathlib import Path

import pytest

from pipeline.errors import BadInput
from queries import blocklist


def _load(folder: Path, text: str) -> blocklist.Blocklist:
    path = folder / "blocked.txt"
    path.write_text(text)
    return blocklist.load(str(path))


def test_a_line_blocks_its_query_alone_and_stars_all_that_hold_it(tmp_path: Path) -> None:
    blocked = _load(tmp_path, "# not these\nThe  King!\n\n* red kite *\n")
    assert blocked.line("the king") == "The  King!"
    assert blocked.line("the king of spain") is None
    assert blocked.line("a red kite flies") == "* red kite *"
    assert blocked.line("red kite") == "* red kite *"
    assert blocked.line("infrared kite") is None


def test_without_a_file_nothing_is_blocked() -> None:
    assert blocklist.load(None).line("anything") is None


@pytest.mark.parametrize("line", ["…", "red*", "* red", "* *"])
def test_a_line_that_is_no_query_is_named(tmp_path: Path, line: str) -> None:
    with pytest.raises(BadInput, match=r"blocked.txt, line 2 is no query"):
        _load(tmp_path, f"fine\n{line}\n")


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(BadInput, match=r"derive.blocklist: /nowhere"):
        blocklist.load("/nowhere")
