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
from pipeline.trainer import checkpoint, weights
from tests.pipeline.weight_files import VOCABULARY, model, same, write_script

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


def _checkpoint(root: Path, step: int, cutter: Tokenizer) -> Run:
    run = Run.open(root, _CONFIG if not root.exists() else None, [])
    folder = run.path("checkpoints")
    folder.mkdir(parents=True, exist_ok=True)
    cutter.save(folder / "vocabulary.txt.gz")
    made = model(seed=step).state_dict()
    state = checkpoint.State(
        step, "tiny", VOCABULARY, cutter.digest, 640, "a", {}, 1.0, {}, activation="gelu"
    )
    checkpoint.save(folder, made, {}, {}, state, keep=9)
    return run


def test_a_checkpoint_of_a_run_is_exported_with_the_vocabulary_of_its_run(tmp_path: Path) -> None:
    cutter, out = Tokenizer(_LETTERS), tmp_path / "out"
    for step in (10, 20):
        run = _checkpoint(tmp_path / "run", step, cutter)
    for words, step in (([], 20), (["--checkpoint", "step_10"], 10)):
        _export("--run", run.root, "--to", "open_clip", "--out", out, "--again", *words)
        found = weights.read(out)
        assert same(found.state, dict(model(seed=step).state_dict()))
        assert found.activation == "gelu"
        assert f"| steps | {step} |" in (out / "README.md").read_text()
    other = Tokenizer([(b, a) for a, b in _LETTERS])
    other.save(run.path("checkpoints") / "vocabulary.txt.gz")
    with pytest.raises(BadInput, match="not the one that the weights were trained with"):
        _export("--run", run.root, "--to", "open_clip", "--out", out, "--again")
    assert same(weights.read(out).state, dict(model(seed=10).state_dict()))


def test_a_damaged_checkpoint_is_not_exported(tmp_path: Path) -> None:
    run = _checkpoint(tmp_path / "run", 10, Tokenizer(_LETTERS))
    file = run.path("checkpoints") / "step_000000010" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(checkpoint.DamagedCheckpoint, match="changed since it was written"):
        _export("--run", run.root, "--to", "hf", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
