"""Other people's models compute the logits of ours from our weights, under OpenAI's names."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from asking import Strangers
from safetensors.torch import save_file
from torch import nn

from pipeline.trainer.architectures import ARCHITECTURES
from pipeline.trainer.model import CLIP, build
from pipeline.trainer.resnet import ModifiedResNet
from pipeline.trainer.transformer import Activation

pytestmark = pytest.mark.interop
VOCABULARY, IMAGES, LENGTHS = 49_408, 2, (2, 9, 40, 77)
THEIRS = {name: name.replace("/", "-").replace("@", "-") for name in ARCHITECTURES}
PAPER = [name for name in ARCHITECTURES if not name.startswith("tiny")]
ANSWERED = [
    *((name, "open_clip", "quick_gelu") for name in PAPER),
    *((n, "transformers", "quick_gelu") for n in PAPER if ARCHITECTURES[n].patch is not None),
    ("ViT-B/32", "open_clip", "gelu"),
    ("ViT-B/32", "transformers", "gelu"),
]


def _model(name: str, activation: Activation) -> CLIP:
    """Fresh weights, and chance where a fresh model has zeros and ones that would hide a fault."""
    model = build(name, VOCABULARY, seed=0, activation=activation)
    torch.manual_seed(1)
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, nn.BatchNorm2d | nn.LayerNorm):
                part.weight.uniform_(0.5, 1.5)
                part.bias.normal_(std=0.1)
            if isinstance(part, nn.BatchNorm2d):
                part.momentum = 1.0
        for parameter_name, parameter in model.named_parameters():
            if parameter_name.endswith(("in_proj_bias", "out_proj.bias")):
                parameter.normal_(std=0.1)
        if isinstance(model.visual, ModifiedResNet):
            # Without statistics of its own a deep one maps all images to one place.
            model.train().encode_image(_given(name)["images"])
    return model.eval()


def _given(name: str) -> dict[str, torch.Tensor]:
    torch.manual_seed(2)
    side = ARCHITECTURES[name].resolution
    # Large forms: the mean of mere noise is the same for all images.
    forms = F.interpolate(torch.randn(IMAGES, 3, 4, 4), size=side, mode="bicubic")
    tokens = torch.zeros(len(LENGTHS), 77, dtype=torch.long)
    for row, length in zip(tokens, LENGTHS, strict=True):
        row[:length] = torch.randint(1, VOCABULARY - 2, (length,))
        row[0], row[length - 1] = VOCABULARY - 2, VOCABULARY - 1
    return {"images": forms + torch.randn_like(forms) / 4, "tokens": tokens}


@pytest.mark.parametrize(("name", "whose", "activation"), ANSWERED)
def test_a_model_of_others_computes_the_logits_of_ours(
    name: str, whose: str, activation: Activation, strangers: Strangers, tmp_path: Path
) -> None:
    model, given = _model(name, activation), _given(name)
    weights, inputs = tmp_path / "weights.safetensors", tmp_path / "given.safetensors"
    save_file(model.state_dict(), weights)
    atol = 1e-5
    if isinstance(model.visual, ModifiedResNet):
        # With chance for weights a deep one enlarges fp32's rounding until it is all that is seen.
        model, given["images"], atol = model.double(), given["images"].double(), 1e-10
    save_file(given, inputs)
    with torch.inference_mode():
        image_BE, text_BE, scale = model(given["images"], given["tokens"])
        ours = scale.exp() * F.normalize(image_BE, dim=-1) @ F.normalize(text_BE, dim=-1).T
    del model
    their_name = THEIRS[name] + "-quickgelu" * (activation == "quick_gelu")
    asked = (whose, their_name, activation, weights, inputs)
    answer = strangers.read("open_clip", "models_compute.py", *asked)
    theirs = torch.tensor(answer, dtype=ours.dtype)
    weights.unlink()
    # Logits that hardly differ from image to image, or from text to text, would agree with any.
    assert min(ours.std(dim=0).max(), ours.std(dim=1).max()) > 1e-3
    torch.testing.assert_close(theirs, ours, rtol=0, atol=atol)
