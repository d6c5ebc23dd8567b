"""The nine models: sizes, names, and what their encoders must not care about."""

import math

import pytest
import torch

from pipeline.errors import BadInput
from pipeline.trainer.architectures import ARCHITECTURES, Architecture, architecture
from pipeline.trainer.loss import contrastive
from pipeline.trainer.model import CLIP, build

PUBLISHED = {
    "RN50": 102_007_137,
    "RN101": 119_688_033,
    "RN50x4": 178_300_601,
    "RN50x16": 290_979_217,
    "RN50x64": 623_258_305,
    "ViT-B/32": 151_277_313,
    "ViT-B/16": 149_620_737,
    "ViT-L/14": 427_616_513,
    "ViT-L/14@336": 427_944_193,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_model_of_the_paper_has_as_many_parameters_as_the_released_one(name):
    with torch.device("meta"):
        model = CLIP(ARCHITECTURES[name], 49_408)
    assert sum(p.numel() for p in model.parameters()) == PUBLISHED[name]


def test_parameters_carry_the_names_of_the_released_checkpoints():
    with torch.device("meta"):
        vit = set(CLIP(ARCHITECTURES["ViT-B/32"], 49_408).state_dict())
        resnet = set(CLIP(ARCHITECTURES["RN50"], 49_408).state_dict())
    assert {
        "visual.class_embedding",
        "visual.conv1.weight",
        "visual.proj",
        "visual.transformer.resblocks.0.attn.in_proj_weight",
        "visual.transformer.resblocks.11.attn.out_proj.bias",
        "visual.transformer.resblocks.3.mlp.c_fc.weight",
        "transformer.resblocks.11.ln_2.weight",
        "token_embedding.weight",
        "positional_embedding",
        "ln_final.bias",
        "text_projection",
        "logit_scale",
    } <= vit
    assert {
        "visual.layer1.0.downsample.0.weight",
        "visual.layer4.2.bn3.running_var",
        "visual.attnpool.positional_embedding",
        "visual.attnpool.c_proj.weight",
    } <= resnet
    assert len(vit) == 302


def test_an_unknown_model_is_named_with_the_ones_there_are():
    with pytest.raises(BadInput, match=r"`ViT-Z`.*ViT-B/32.*tiny"):
        architecture("ViT-Z")


def test_attention_is_that_of_torch():
    model = build("tiny", 600, seed=0)
    ours = model.transformer.resblocks[0].attn
    theirs = torch.nn.MultiheadAttention(128, ours.heads, batch_first=True)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 5, 128)
    mask = torch.full((5, 5), -math.inf).triu(1)
    torch.testing.assert_close(ours(x, is_causal=True), theirs(x, x, x, attn_mask=mask)[0])


def test_a_text_does_not_change_with_its_padding():
    model = build("tiny", 600, seed=0)
    tokens = torch.tensor([[598, 5, 6, 599, 0, 0, 0, 0]])
    torch.testing.assert_close(model.encode_text(tokens), model.encode_text(tokens[:, :4]))


def test_a_text_changes_with_each_of_its_tokens():
    model = build("tiny", 600, seed=0)
    first = model.encode_text(torch.tensor([[598, 5, 6, 599]]))
    second = model.encode_text(torch.tensor([[598, 7, 6, 599]]))
    assert not torch.allclose(first, second)


def test_a_resnet_encodes_images_and_carries_gradients_to_its_first_convolution():
    small = Architecture(32, 64, (1, 1, 1, 1), 16, None, 64, 1, 8)
    model = CLIP(small, 600)
    out = model.encode_image(torch.randn(2, 3, 64, 64))
    out.sum().backward()
    gradient = model.visual.conv1.weight.grad
    assert out.shape == (2, 32)
    assert gradient is not None
    assert gradient.abs().sum() > 0


def test_the_seed_alone_decides_the_first_weights():
    torch.manual_seed(1)
    first = build("tiny", 600, seed=3).state_dict()
    torch.manual_seed(2)
    again, other = build("tiny", 600, seed=3).state_dict(), build("tiny", 600, seed=4).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["visual.proj"], other["visual.proj"])


def test_logits_begin_scaled_by_one_over_seven_hundredths():
    assert build("tiny", 600, seed=0).logit_scale.exp().item() == pytest.approx(1 / 0.07)


def test_the_loss_is_that_of_both_directions_by_hand():
    image, text = torch.tensor([[2.0, 0.0], [0.0, 3.0]]), torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    a = 1 / math.sqrt(2)
    # Cosines: first image 1 and a, second image 0 and a.
    rows = math.log(1 + math.exp(a - 1)), math.log(1 + math.exp(0 - a))
    columns = math.log(1 + math.exp(0 - 1)), math.log(1 + math.exp(a - a))
    expected = (sum(rows) / 2 + sum(columns) / 2) / 2
    assert contrastive(image, text, torch.tensor(0.0)).item() == pytest.approx(expected)


def test_the_loss_is_computed_in_full_precision_from_halves():
    image, text = torch.randn(4, 8).bfloat16(), torch.randn(4, 8).bfloat16()
    scale = torch.tensor(math.log(100.0))
    with torch.autocast("cpu", torch.bfloat16):
        half = contrastive(image, text, scale)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, contrastive(image.float(), text.float(), scale))


@pytest.mark.parametrize("patch", [None, 16])
def test_half_precision_changes_an_embedding_only_a_little(patch):
    layers = (1, 1, 1, 1) if patch is None else (2,)
    width = 16 if patch is None else 64
    torch.manual_seed(0)
    model = CLIP(Architecture(32, 64, layers, width, patch, 64, 1, 8), 600).eval()
    image, tokens = torch.randn(2, 3, 64, 64), torch.tensor([[598, 5, 599], [598, 7, 599]])
    with torch.inference_mode():
        full = model.encode_image(image), model.encode_text(tokens)
        with torch.autocast("cpu", torch.bfloat16):
            half = model.encode_image(image), model.encode_text(tokens)
    for a, b in zip(full, half, strict=True):
        assert torch.cosine_similarity(a, b.float()).min() > 0.999
