"""wit export: what it takes, and what it says of what it cannot take."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.__main__ import app
from jobs.run import Run
from pipeline.errors import BadInput, MissingTable
from pipeline.tokenizer import Tokenizer
from pipeline.trainer import weights
from tests.pipeline.weight_files import VOCABULARY, model, write_script

_LETTERS = [(a, b) for a in "abcdefghij" for b in "abcdefghij"][: VOCABULARY - 514]
_CONFIG = Path(__file__).parents[2] / "jobs" / "configs" / "tiny.toml"


def _export(*words: object) -> str:
    told = CliRunner().invoke(app, ["export", *map(str, words)], catch_exceptions=False)
    assert told.exit_code == 0, told.output
    return told.output


@pytest.fixture
def given(tmp_path: Path) -> list[object]:
    """The options that name somebody's weights."""
    write_script(tmp_path / "a.pt", model())
    Tokenizer(_LETTERS).save(tmp_path / "v.gz")
    return ["--weights", tmp_path / "a.pt", "--vocabulary", tmp_path / "v.gz"]


def test_weights_of_others_become_a_folder_without_a_run(
    given: list[object], tmp_path: Path
) -> None:
    _export(*given, "--to", "open_clip", "--out", tmp_path / "new" / "out")
    assert weights.read(tmp_path / "new" / "out").origin == "open_clip"
    _export(*given, "--to", "hf", "--out", tmp_path / "new" / "out", "--again")
    assert weights.read(tmp_path / "new" / "out").origin == "Hugging Face"


def test_a_run_without_that_checkpoint_is_told_which_there_are(tmp_path: Path) -> None:
    run = Run.open(tmp_path / "run", _CONFIG, [])
    words = ["--run", run.root, "--to", "hf", "--out", tmp_path / "out"]
    with pytest.raises(MissingTable, match="holds no checkpoint: run `wit train"):
        _export(*words)
    (run.path("checkpoints") / "step_000000020").mkdir(parents=True)
    for name in ("step_10", "../step_20", "last"):
        with pytest.raises(BadInput, match="is not there; there are step_000000020"):
            _export(*words, "--checkpoint", name)
    assert not (tmp_path / "out").exists()


def test_two_sources_of_weights_are_one_too_many(given: list[object], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--checkpoint is one of a run's"):
        _export(*given, "--checkpoint", "step_1", "--to", "hf", "--out", tmp_path / "out")
    with pytest.raises(BadInput, match="no activation is called relu"):
        _export(*given, "--activation", "relu", "--to", "hf", "--out", tmp_path / "out")


def test_an_export_knows_nothing_of_spark() -> None:
    code = "import sys, jobs.export; sys.exit('pyspark' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
