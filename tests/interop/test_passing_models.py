"""Models and their tokenizers pass between us, open_clip and transformers, and compute the same."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from asking import Strangers
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.tokenizer import Tokenizer, count_words, learn
from pipeline.trainer import weights
from pipeline.trainer.architectures import architecture
from pipeline.trainer.export import configs, export
from pipeline.trainer.feeding import normalised
from pipeline.trainer.model import CLIP
from pipeline.trainer.pixels import centre_square
from tests.pipeline import weight_files

pytestmark = pytest.mark.interop
_TEXTS = ["a dog runs", "two children &amp; a cat's ball", "a literal <|endoftext|> here", "été"]
_MERGES = Tokenizer(learn(count_words([*_TEXTS, "a dog and a cat in a park"] * 3), 60))
_CONTEXT = 32


def _given(folder: Path, texts: list[str] = _TEXTS) -> dict[str, Tensor]:
    """Inputs for everybody, in `folder` and as they are."""
    chance = torch.Generator().manual_seed(0)
    coarse = np.random.default_rng(0).integers(0, 256, (9, 13, 3), dtype=np.uint8)
    photo = np.asarray(Image.fromarray(coarse).resize((131, 90), Image.Resampling.BICUBIC))
    given = {
        "image": torch.randn(4, 3, 64, 64, generator=chance),
        "tokens": torch.from_numpy(_MERGES.encode_batch(texts, _CONTEXT)),
        "photo": torch.from_numpy(photo.copy()),
    }
    save_file(given, folder / "given.safetensors")
    (folder / "texts.json").write_text(json.dumps(texts))
    return given


def _ours(model: CLIP, given: dict[str, Tensor]) -> dict[str, Tensor]:
    with torch.inference_mode():
        image, text = model.encode_image(given["image"]), model.encode_text(given["tokens"])
        scale = model.logit_scale.exp()
        logits = scale * F.normalize(image) @ F.normalize(text).T
    return {"image": image, "text": text, "scale": scale, "logits": logits}


def _model(name: str) -> tuple[CLIP, weights.Weights]:
    made = weight_files.model(name, vocabulary=_MERGES.vocabulary)
    with torch.no_grad():
        # A scale as trained models have it: differences of embeddings are as large in the logits.
        made.logit_scale.fill_(np.log(100))
    found = dict(made.state_dict())
    return made, weights.Weights(name, _MERGES.vocabulary, _CONTEXT, "quick_gelu", found)


def _differ(found: Tensor, due: Tensor) -> float:
    return float((found.double() - due.double()).abs().max())


@pytest.mark.parametrize("name", ["tiny", "tiny-RN"])
def test_open_clip_loads_an_exported_folder_and_computes_the_same(
    name: str, strangers: Strangers, tmp_path: Path
) -> None:
    model, ours = _model(name)
    export(ours, _MERGES, "open_clip", tmp_path / "out")
    due = _ours(model, _given(tmp_path))
    told = tmp_path / "told.safetensors"
    strangers.write("open_clip", "models_pass.py", "open_clip", tmp_path, tmp_path / "out", told)
    found = load_file(told)
    for part in ("image", "text", "scale"):
        assert _differ(found[part], due[part]) <= 1e-5
    # Their tokenizers fill up with other numbers; what follows the end has no part in a text.
    assert _differ(found["by_tokenizer"], due["text"]) <= 1e-5
    assert _differ(found["by_merges"], due["text"]) <= 1e-5


def test_transformers_classifies_with_an_exported_folder_as_we_do(
    strangers: Strangers, tmp_path: Path
) -> None:
    model, ours = _model("tiny")
    export(ours, _MERGES, "hf", tmp_path / "out")
    # transformers reads `&amp;` as it stands.
    given = _given(tmp_path, [text.replace("&amp;", "&") for text in _TEXTS])
    told = tmp_path / "told.safetensors"
    strangers.write("open_clip", "models_pass.py", "transformers", tmp_path, tmp_path / "out", told)
    found = load_file(told)
    due = _ours(model, given)["logits"]
    assert _differ(found["logits"], due) <= 1e-4
    assert _differ(found["by_tokenizer"], due) <= 1e-4
    assert _differ(due[:, 0], due[:, 1]) > 1e-2  # texts are not one
    same_pixels = _ours(model, given | {"image": found["pixels"]})["logits"]
    assert _differ(found["scores"], same_pixels[0].softmax(0)) <= 1e-4
    Image.fromarray(given["photo"].numpy()).save(tmp_path / "photo.png")
    square = torch.from_numpy(centre_square((tmp_path / "photo.png").read_bytes(), 64).copy())
    pixels = normalised(square[None], torch.device("cpu"))
    # 93 pixels wide, cut to 64: their cut begins at pixel 14 of 14.5, and so does ours.
    assert _differ(found["pixels"], pixels) <= 0.05


def test_models_that_others_saved_compute_the_same_with_us(
    strangers: Strangers, tmp_path: Path
) -> None:
    given = _given(tmp_path)
    arch = architecture("tiny")
    theirs = configs.open_clip(arch, _MERGES.vocabulary, "gelu")["model_cfg"]
    del theirs["quick_gelu"], theirs["text_cfg"]["hf_tokenizer_name"]
    hugging = configs.hugging_face(arch, _MERGES.vocabulary, "gelu")
    sizes = {"open_clip": theirs, "transformers": hugging}
    (tmp_path / "sizes.json").write_text(json.dumps(sizes))
    made = tmp_path / "made"
    strangers.write("open_clip", "models_pass.py", "write", tmp_path, tmp_path / "sizes.json", made)
    for is_quick in (True, False):
        activation = "quick_gelu" if is_quick else "gelu"
        folder = made / f"open_clip_{is_quick}"
        for path in (folder, folder / "epoch_1.pt"):
            model, told = weights.load_model(path)
            assert told.activation == activation
            found, due = _ours(model.eval(), given), load_file(folder / "told.safetensors")
            assert max(_differ(found[part], due[part]) for part in due) <= 1e-5
        folder = made / f"transformers_{is_quick}"
        model, told = weights.load_model(folder)
        assert (told.activation, told.origin) == (
            "quick_gelu" if is_quick else "gelu",
            "Hugging Face",
        )
        due = load_file(folder / "told.safetensors")
        assert _differ(_ours(model.eval(), given)["logits"], due["logits"]) <= 1e-4
    assert len(list((made / "transformers_True").glob("model-*.safetensors"))) > 1


@pytest.mark.parametrize("name", ["tiny", "tiny-RN"])
def test_a_script_in_half_precision_is_to_open_clip_what_it_is_to_us(
    name: str, strangers: Strangers, tmp_path: Path
) -> None:
    made, _ = _model(name)
    weight_files.write_script(tmp_path / "a.pt", made)
    given, told = _given(tmp_path), tmp_path / "told.safetensors"
    strangers.write("open_clip", "models_pass.py", "openai", tmp_path, tmp_path / "a.pt", told)
    model, _ = weights.load_model(tmp_path / "a.pt")
    found, due = load_file(told), _ours(model.eval(), given)
    assert max(_differ(found[part], due[part]) for part in found) <= 1e-5
