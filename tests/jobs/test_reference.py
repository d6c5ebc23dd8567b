"""jobs.reference and jobs/configs"""

from pathlib import Path

import pytest

from jobs import load, reference

_ROOT = Path(__file__).parent.parent.parent


def test_the_settings_page_is_that_of_the_settings() -> None:
    written = (_ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert written == reference.page(), "run `make docs`"


@pytest.mark.parametrize("name", ["tiny.toml", "clip400m.toml"])
def test_the_settings_that_we_ship_are_valid(name: str) -> None:
    load.load(_ROOT / "jobs" / "configs" / name, [])
