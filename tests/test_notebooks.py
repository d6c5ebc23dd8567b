"""The notebooks read a finished run: their cells are run here, in order, in a bare namespace."""

import json
import os
from pathlib import Path

import pytest

_NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", _NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_on_a_finished_run(
    path: Path, monkeypatch: pytest.MonkeyPatch, built: object
) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    monkeypatch.setitem(os.environ, "WIT_RUN", str(built.root))  # type: ignore[attr-defined]
    namespace: dict[str, object] = {}
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), namespace)  # noqa: S102
