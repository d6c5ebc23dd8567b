"""Weights of others: each maker's files give the numbers that went in, and say what they are."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pipeline.errors import BadInput
from pipeline.trainer import weights
from pipeline.trainer.architectures import ARCHITECTURES
from pipeline.trainer.feeding import normalised
from pipeline.trainer.model import CLIP
from pipeline.trainer.weights import hugging_face, preprocessing, sizes
from tests.pipeline.weight_files import (
    CONTEXT,
    SIDE,
    VOCABULARY,
    model,
    same,
    write_script,
)


def _halved(made: CLIP) -> dict[str, Tensor]:
    state = made.state_dict().items()
    return {n: v.half().float() if v.is_floating_point() else v for n, v in state}


def _config(folder: Path, **told: object) -> None:
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": told}))


@pytest.mark.parametrize("name", ["tiny", "tiny-RN"])
def test_a_script_as_openai_releases_them_gives_its_numbers(name: str, tmp_path: Path) -> None:
    made, path = model(name), tmp_path / "a.pt"
    write_script(path, made)
    found = weights.read(path)
    assert (found.model, found.vocabulary, found.context) == (name, VOCABULARY, CONTEXT)
    assert (found.activation, found.origin) == ("quick_gelu", "OpenAI")
    assert same(found.state, _halved(made))


def test_a_script_s_model_computes_what_the_script_computes(tmp_path: Path) -> None:
    made, path = model(), tmp_path / "a.pt"
    write_script(path, made)
    loaded, _ = weights.load_model(path)
    made.load_state_dict(_halved(made))
    image = torch.randn(3, 3, SIDE, SIDE)
    tokens = torch.randint(1, 500, (3, CONTEXT))
    tokens[:, 7] = VOCABULARY - 1
    with torch.inference_mode():
        assert torch.equal(loaded.eval().encode_image(image), made.encode_image(image))
        assert torch.equal(loaded.encode_text(tokens), made.encode_text(tokens))


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_training_s_file_of_open_clip_gives_its_state_alone(prefix: str, tmp_path: Path) -> None:
    made, path = model("tiny-RN"), tmp_path / "epoch_3.pt"
    state = {f"{prefix}{name}": value for name, value in made.state_dict().items()}
    optimizer = torch.optim.AdamW(made.parameters()).state_dict()
    torch.save({"epoch": 3, "name": "a", "state_dict": state, "optimizer": optimizer}, path)
    _config(tmp_path, quick_gelu=True)
    found = weights.read(path)
    assert (found.model, found.activation, found.origin) == ("tiny-RN", "quick_gelu", "open_clip")
    assert same(found.state, dict(made.state_dict()))


def test_a_state_of_strided_and_shared_and_bfloat16_tensors_is_read_as_torch_reads_it(
    tmp_path: Path,
) -> None:
    state, path = dict(model().state_dict()), tmp_path / "quickgelu.pt"
    both = torch.randn(2, 512)
    state["transformer.resblocks.0.mlp.c_fc.bias"] = both[0]
    state["transformer.resblocks.1.mlp.c_fc.bias"] = both[1]
    state["visual.proj"] = torch.randn(128, 128).T
    state["text_projection"] = torch.randn(128, 128).bfloat16()
    torch.save(state, path)
    found = weights.read(path).state
    theirs = torch.load(path, weights_only=True)
    assert same(found, {name: value.float() for name, value in theirs.items()})
    assert all(value.is_contiguous() for value in found.values())


def test_safetensors_are_read_by_the_config_beside_them(tmp_path: Path) -> None:
    made = model()
    save_file(dict(made.state_dict()), tmp_path / "open_clip_model.safetensors")
    _config(tmp_path, vision_cfg={"image_size": SIDE}, text_cfg={"heads": 2})
    for path in (tmp_path, tmp_path / "open_clip_model.safetensors"):
        found = weights.read(path)
        assert (found.activation, found.model) == ("gelu", "tiny")
        assert same(found.state, dict(made.state_dict()))


def test_a_model_of_gelu_has_exact_gelus_and_no_others(tmp_path: Path) -> None:
    made, path = model(), tmp_path / "a.pt"
    torch.save(made.state_dict(), path)
    exact, _ = weights.load_model(path, activation="gelu")
    quick, _ = weights.load_model(path, activation="quick_gelu")
    kinds = [type(block.mlp.gelu) for block in exact.transformer.resblocks]
    assert set(kinds) == {nn.GELU}
    image = torch.randn(2, 3, SIDE, SIDE)
    with torch.inference_mode():
        difference = exact.encode_image(image) - quick.encode_image(image)
    assert difference.abs().max() > 1e-4


def test_weights_that_do_not_tell_their_activation_are_not_guessed_at(tmp_path: Path) -> None:
    path = tmp_path / "epoch_3.pt"
    torch.save(model().state_dict(), path)
    with pytest.raises(BadInput, match=r"does not say which GELU.*open_clip_config\.json"):
        weights.read(path)
    path.rename(tmp_path / "ViT-tiny-quickgelu.pt")
    assert weights.read(tmp_path / "ViT-tiny-quickgelu.pt").activation == "quick_gelu"
    _config(tmp_path, quick_gelu=True)
    with pytest.raises(BadInput, match="says quick_gelu, and gelu is asked for"):
        weights.read(tmp_path / "ViT-tiny-quickgelu.pt", activation="gelu")


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"model_cfg": {"vision_cfg": {"pool_type": "avg"}}}, "vision_cfg.pool_type is avg"),
        ({"model_cfg": {"text_cfg": {"heads": 4}}}, "text_cfg.heads is 4"),
        ({"model_cfg": {"text_cfg": {"no_causal_mask": True}}}, "no_causal_mask is True"),
        ({"model_cfg": {"vision_cfg": {"norm_kwargs": {"eps": 1e-6}}}}, "norm_kwargs is"),
        ({"model_cfg": {"vision_cfg": {"new_idea": 1}}}, "new_idea is 1"),
        ({"model_cfg": {}, "preprocess_cfg": {"mean": [0.5, 0.5, 0.5]}}, "mean is .*where CLIP"),
        ({"model_cfg": {}, "preprocess_cfg": {"resize_mode": "squash"}}, "resize_mode is squash"),
        ({"model_cfg": []}, "model_cfg is no object"),
    ],
)
def test_a_config_of_another_function_of_the_same_shapes_is_refused(
    config: object, says: str, tmp_path: Path
) -> None:
    save_file(dict(model().state_dict()), tmp_path / "open_clip_model.safetensors")
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(BadInput, match=says):
        weights.read(tmp_path)


@pytest.mark.parametrize("name", [name for name, arch in ARCHITECTURES.items() if arch.patch])
def test_the_names_of_hugging_face_lead_there_and_back(name: str) -> None:
    arch = dataclasses.replace(ARCHITECTURES[name], text_layers=1, layers=(2,))
    torch.manual_seed(0)
    state = dict(CLIP(arch, 10).state_dict())
    theirs = hugging_face.to_theirs(state)
    assert same(hugging_face.to_ours(theirs, list(state)), state)
    names = weights.Tensors({n: tuple(v.shape) for n, v in theirs.items()}, theirs.__getitem__)
    assert hugging_face.shapes(names, Path("a")) == sizes.wanted(arch, 10)


def test_a_resnet_has_no_names_in_hugging_face() -> None:
    with pytest.raises(BadInput, match="has no place in a CLIPModel"):
        hugging_face.to_theirs(dict(model("tiny-RN").state_dict()))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_each_architecture_is_told_by_its_shapes(name: str) -> None:
    assert sizes.architecture_of(sizes.wanted(ARCHITECTURES[name], 99), Path("a")) == name


def test_a_model_of_other_sizes_is_refused_with_what_differs() -> None:
    other = dataclasses.replace(ARCHITECTURES["ViT-B/32"], embed=640, text_layers=10)
    shapes = sizes.wanted(other, 49_408)
    with pytest.raises(BadInput, match="of ViT-B/32, the nearest, embed is 640, not 512, text_lay"):
        sizes.architecture_of(shapes, Path("a"))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"ln_final.bias": None}, "`ln_final.bias` is missing"),
        ({"logit_bias": torch.zeros(())}, "`logit_bias` is none of its weights"),
        ({"visual.ln_pre.bias": torch.zeros(7)}, "`visual.ln_pre.bias` is 7, not 128"),
        ({"text_projection": None}, "has no tensor 'text_projection'"),
        ({"ln_final.bias": torch.full((128,), torch.nan)}, "`ln_final.bias` holds numbers that"),
    ],
)
def test_a_state_of_another_model_is_refused_by_the_name_that_differs(
    changed: dict[str, Tensor | None], says: str, tmp_path: Path
) -> None:
    state = dict(model().state_dict()) | changed
    torch.save({n: v for n, v in state.items() if v is not None}, tmp_path / "quickgelu.pt")
    with pytest.raises(BadInput, match=says):
        weights.read(tmp_path / "quickgelu.pt")


def test_the_mean_and_deviation_in_config_files_are_those_that_images_are_fed_with() -> None:
    black = normalised(torch.zeros(1, 1, 1, 3, dtype=torch.uint8), torch.device("cpu")).flatten()
    white = normalised(torch.full((1, 1, 1, 3), 255).byte(), torch.device("cpu")).flatten()
    std = 1 / (white - black)
    assert torch.allclose(std, torch.tensor(preprocessing.STD), atol=1e-6)
    assert torch.allclose(-black * std, torch.tensor(preprocessing.MEAN), atol=1e-6)


def test_a_path_without_weights_is_told_what_would_be_some(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not exist"):
        weights.read(tmp_path / "none")
    with pytest.raises(BadInput, match="is no folder of weights: a checkpoint has"):
        weights.read(tmp_path)
    (tmp_path / "open_clip_config.json").write_text("{}")
    with pytest.raises(BadInput, match="looked for open_clip_model"):
        weights.read(tmp_path)
