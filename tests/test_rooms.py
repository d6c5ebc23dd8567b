"""The architecture, as tests."""

import ast
import subprocess
import sys
from pathlib import Path

import jobs
import pipeline
import queries

_ROOT = Path(__file__).parent.parent
_ROOMS = ("pipeline", "queries", "jobs")


def _sources() -> list[Path]:
    return [file for room in _ROOMS for file in sorted((_ROOT / room).rglob("*.py"))]


def test_each_room_is_imported_from_this_repository() -> None:
    for room in (pipeline, queries, jobs):
        assert Path(str(room.__file__)).is_relative_to(_ROOT)


def test_the_import_contracts_hold() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    told = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr


def test_no_job_is_named_like_a_room_or_a_standard_module() -> None:
    names = {file.stem for file in (_ROOT / "jobs").glob("*.py")} - {"__init__", "__main__"}
    assert not names & {*_ROOMS, *sys.stdlib_module_names}


def test_every_file_says_what_it_is() -> None:
    silent = [file for file in _sources() if not ast.get_docstring(ast.parse(file.read_text()))]
    assert silent == []


def test_no_file_holds_two_ideas() -> None:
    long = {f.name: n for f in _sources() if (n := len(f.read_text().splitlines())) > 330}
    assert long == {}


def test_jobs_write_no_column_expressions_outside_the_counting_of_rows() -> None:
    for file in (_ROOT / "jobs").glob("*.py"):
        has_functions = "functions as F" in file.read_text()
        assert not has_functions or file.name == "counting.py", file


def test_notebooks_define_nothing_and_carry_no_output() -> None:
    import json

    for file in (_ROOT / "notebooks").glob("*.ipynb"):
        for cell in json.loads(file.read_text())["cells"]:
            if cell["cell_type"] == "code":
                assert cell["outputs"] == [], file
                assert "def " not in "".join(cell["source"]), file
