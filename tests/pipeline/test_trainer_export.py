"""Exported folders: what others must be told, whole or not at all."""

import gzip
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from jobs import export as job
from pipeline import staged
from pipeline.errors import BadInput
from pipeline.tokenizer import Tokenizer, load
from pipeline.trainer import weights
from pipeline.trainer.export import export
from pipeline.trainer.model import build
from tests.pipeline.weight_files import CONTEXT, model, same, write_script

_MERGES = Tokenizer([("t", "h"), ("th", "e</w>"), ("a", "b")])


def _weights(name: str = "tiny", activation: str = "quick_gelu") -> weights.Weights:
    made = build(name, _MERGES.vocabulary, 0).eval()
    return weights.Weights(name, _MERGES.vocabulary, CONTEXT, activation, dict(made.state_dict()))


@pytest.mark.parametrize(
    ("name", "kind"), [("tiny", "open_clip"), ("tiny", "hf"), ("tiny-RN", "open_clip")]
)
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_an_exported_folder_is_read_back_as_it_was(
    name: str, kind: str, activation: str, tmp_path: Path
) -> None:
    given = _weights(name, activation)
    export(given, _MERGES, kind, tmp_path / "out")
    found = weights.read(tmp_path / "out")
    assert (found.model, found.vocabulary, found.context) == (name, _MERGES.vocabulary, CONTEXT)
    assert found.activation == activation
    assert same(found.state, given.state)
    assert load(tmp_path / "out" / "vocabulary.txt.gz").digest == _MERGES.digest


def test_a_text_is_read_off_the_last_token_of_its_own_vocabulary(tmp_path: Path) -> None:
    export(_weights(), _MERGES, "hf", tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())["text_config"]
    vocabulary = json.loads((tmp_path / "out" / "vocab.json").read_text())
    assert config["eos_token_id"] == vocabulary["<|endoftext|>"] == _MERGES.end == 516
    assert config["bos_token_id"] == vocabulary["<|startoftext|>"] == _MERGES.start
    told = json.loads((tmp_path / "out" / "tokenizer.json").read_text())
    assert told["post_processor"]["sep"] == ["<|endoftext|>", 516]
    assert told["model"]["merges"] == ["t h", "th e</w>", "a b"]


def test_the_merges_end_without_a_line_break_that_open_clip_would_count(tmp_path: Path) -> None:
    _MERGES.save(tmp_path / "a.gz")
    lines = gzip.decompress((tmp_path / "a.gz").read_bytes()).decode().split("\n")
    assert lines[1:] == ["t h", "th e</w>", "a b"]
    assert load(tmp_path / "a.gz").digest == _MERGES.digest


def test_an_earlier_export_is_replaced_only_when_that_is_asked_for(tmp_path: Path) -> None:
    export(_weights(), _MERGES, "hf", tmp_path / "out")
    with pytest.raises(BadInput, match="is there already: --again replaces it"):
        export(_weights(), _MERGES, "open_clip", tmp_path / "out")
    export(_weights(), _MERGES, "open_clip", tmp_path / "out", again=True)
    assert not (tmp_path / "out" / "config.json").exists()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(BadInput, match="holds what no export wrote"):
        export(_weights(), _MERGES, "open_clip", tmp_path / "out", again=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    place = tmp_path / "out"
    place.mkdir()
    (place / "old").write_text("old")
    with pytest.raises(FileNotFoundError), staged.folder(place) as folder:
        (folder / "new").write_text((folder / "none").read_text())
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in place.iterdir()] == ["old"]
    with staged.folder(place) as folder:
        (folder / "new").write_text("new")
    assert [path.name for path in place.iterdir()] == ["new"]


def test_the_weights_can_be_read_by_whoever_may_read_the_readme(tmp_path: Path) -> None:
    export(_weights(), _MERGES, "hf", tmp_path / "out")
    modes = {path.stat().st_mode for path in (tmp_path / "out").iterdir()}
    assert len(modes) == 1


@pytest.mark.parametrize(
    ("name", "merges", "kind", "says"),
    [
        ("tiny-RN", _MERGES, "hf", "has no ResNets, and this is tiny-RN"),
        ("tiny", Tokenizer([]), "hf", "has 514 tokens and the weights have 517"),
        ("tiny", _MERGES, "onnx", "--to onnx: choose one of open_clip, hf"),
    ],
)
def test_what_cannot_be_exported_is_refused_before_anything_is_written(
    name: str, merges: Tokenizer, kind: str, says: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=says):
        export(_weights(name), merges, kind, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_vocabulary_of_other_merges_and_the_same_size_is_refused(tmp_path: Path) -> None:
    given = _weights()
    trained = weights.Weights(**{**vars(given), "tokenizer": _MERGES.digest})
    other = Tokenizer([("b", "a"), ("a", "c"), ("a", "b")])
    with pytest.raises(BadInput, match="not the one that the weights were trained with"):
        export(trained, other, "hf", tmp_path / "out")
    export(trained, _MERGES, "hf", tmp_path / "out")


def test_openai_s_script_becomes_a_folder_by_its_first_merges(tmp_path: Path) -> None:
    made = model()
    write_script(tmp_path / "a.pt", made)
    letters = "abcdefghij"
    merges = [(a, b) for a in letters for b in letters]
    Tokenizer(merges).save(tmp_path / "v.gz")
    out = tmp_path / "out"
    job.main(None, "hf", out, given=tmp_path / "a.pt", vocabulary=tmp_path / "v.gz")
    # The file has 100 merges and the model 600 tokens: 86 of them, and 514 others.
    assert load(out / "vocabulary.txt.gz").merges == merges[:86]
    found = load_file(out / "model.safetensors")
    half = made.state_dict()["visual.proj"].half().float()
    assert torch.equal(found["visual_projection.weight"], half.T)
    assert "weights | of OpenAI" in (out / "README.md").read_text()


def test_an_export_of_nothing_says_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="name what is exported"):
        job.main(None, "hf", tmp_path / "out")
    with pytest.raises(BadInput, match="does not exist"):
        job.main(None, "hf", tmp_path / "o", given=tmp_path / "a", vocabulary=tmp_path / "b")


def test_an_export_goes_where_a_link_points_and_into_the_folder_one_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    export(_weights(), _MERGES, "hf", tmp_path / "link")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]
    assert (tmp_path / "real" / "config.json").is_file()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    export(_weights(), _MERGES, "hf", Path())
    assert (tmp_path / "here" / "config.json").is_file()
