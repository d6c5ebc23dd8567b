"""Micro-batches: the weights must not know in how many parts their batch came."""

import math
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import torch

from pipeline.errors import BadInput
from pipeline.trainer.architectures import Architecture
from pipeline.trainer.loss import contrastive
from pipeline.trainer.micro_batches import backward, check_batch_norm
from pipeline.trainer.model import CLIP

pytestmark = pytest.mark.usefixtures("small_groups")

ROWS, CONTEXT, VOCABULARY = 13, 16, 300
SIZES = {
    "ViT": Architecture(24, 32, (2,), 64, 16, 64, 2, CONTEXT),
    "ResNet": Architecture(24, 32, (1, 1, 1, 1), 4, None, 64, 1, CONTEXT),
}


def _model(kind="ViT", dtype=torch.float64):
    torch.manual_seed(0)
    return CLIP(SIZES[kind], VOCABULARY).to(dtype).train()


def _batch():
    """Images in bytes, tokens of texts of many lengths, and those lengths."""
    chance = np.random.default_rng(0)
    lengths = chance.integers(2, CONTEXT + 1, ROWS)
    tokens = np.zeros((ROWS, CONTEXT), np.int64)
    for row, length in zip(tokens, lengths, strict=True):
        row[:length] = [
            VOCABULARY - 2,
            *chance.integers(1, VOCABULARY - 2, length - 2),
            VOCABULARY - 1,
        ]
    image = chance.integers(0, 256, (ROWS, 32, 32, 3), dtype=np.uint8)
    return torch.from_numpy(image), torch.from_numpy(tokens), lengths


def _prepared(image_BHWC, dtype=torch.float64):
    return image_BHWC.permute(0, 3, 1, 2).to(dtype) / 255 - 0.5


def _learned(model, **settings):
    """The loss, and the gradients of all parameters by name."""
    settings = {"prepare": _prepared} | settings
    loss = backward(model, *_batch(), **settings)
    return loss, {name: parameter.grad for name, parameter in model.named_parameters()}


def _whole(model):
    """What one forward and one backward pass of the whole batch give."""
    image, tokens, _ = _batch()
    image_BE, text_BE = model.encode_image(_prepared(image)), model.encode_text(tokens)
    loss = contrastive(image_BE, text_BE, model.logit_scale)
    loss.backward()
    return loss, {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.fixture(scope="module")
def whole():
    return _whole(_model())


@pytest.mark.parametrize("micro", [None, 1, 4, 5, 12, 13, 99])
@pytest.mark.parametrize("groups", [1, 3])
def test_micro_batches_of_any_size_give_the_gradients_of_the_whole_batch(whole, micro, groups):
    loss, gradients = _learned(_model(), micro=micro, groups=groups, tile=6)
    assert loss.item() == pytest.approx(whole[0].item(), rel=1e-13)
    assert not loss.requires_grad
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, whole[1][name], rtol=1e-12, atol=1e-12, msg=name)


def test_the_gradient_of_micro_batches_is_not_the_mean_of_their_own(whole):
    # What plain accumulation makes: each pair contrasted with its own micro-batch alone.
    model = _model()
    image, tokens, lengths = _batch()
    for part in (slice(0, 4), slice(4, 8)):
        backward(model, image[part], tokens[part], lengths[part], prepare=_prepared)
    assert not torch.allclose(model.visual.proj.grad / 2, whole[1]["visual.proj"], rtol=0.1)


def test_gradients_that_are_there_already_are_added_to(whole):
    model = _model()
    _learned(model, micro=5)
    _learned(model, micro=6)
    torch.testing.assert_close(model.visual.proj.grad, 2 * whole[1]["visual.proj"])
    torch.testing.assert_close(model.logit_scale.grad, 2 * whole[1]["logit_scale"])


def test_no_more_than_a_micro_batch_passes_at_a_time_and_only_the_last_synchronises():
    model, seen, synchronised = _model(), [], []
    model.register_forward_hook(
        lambda module, given, out: seen.append((len(given[0]), torch.is_grad_enabled()))
    )

    @contextmanager
    def sync(is_last):
        synchronised.append(is_last)
        yield
        synchronised.append(len(seen))

    _learned(model, micro=5, sync=sync)
    assert seen == [(5, False), (5, False), (3, False), (5, True), (5, True), (3, True)]
    assert synchronised == [False, 4, False, 5, True, 6]


def _in_halves():
    return torch.autocast("cpu", torch.bfloat16)


@pytest.mark.parametrize("around", [nullcontext, _in_halves])
def test_in_half_precision_every_weight_gets_the_gradient_of_the_whole_batch(around):
    def learned(micro):
        with around():
            return _learned(
                _model(dtype=torch.float32),
                micro=micro,
                autocast=_in_halves,
                prepare=lambda image: _prepared(image, torch.float32),
            )

    (loss, parts), (expected, whole) = learned(5), learned(None)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-3)
    for name, gradient in parts.items():
        likeness = torch.cosine_similarity(gradient.flatten(), whole[name].flatten(), dim=0)
        assert likeness > 0.99, name
        assert gradient.norm().item() == pytest.approx(whole[name].norm().item(), rel=0.05), name


def test_a_loss_that_is_no_number_is_returned_as_it_is():
    model = _model()
    with torch.no_grad():
        model.logit_scale.fill_(math.nan)
    loss, _ = _learned(model, micro=5)
    assert loss.isnan()


def test_a_resnet_is_refused_in_micro_batches_unless_they_are_allowed():
    with torch.device("meta"):
        resnet, vit = CLIP(SIZES["ResNet"], VOCABULARY), CLIP(SIZES["ViT"], VOCABULARY)
    with pytest.raises(BadInput, match=r"4 pairs at a time and not 12.*train\.split_batch_norm"):
        check_batch_norm(resnet, 12, 4, is_allowed=False)
    check_batch_norm(resnet, 12, 4, is_allowed=True)
    check_batch_norm(resnet, 12, 12, is_allowed=False)
    check_batch_norm(resnet, 12, None, is_allowed=False)
    check_batch_norm(vit, 12, 4, is_allowed=False)


def test_a_resnet_in_micro_batches_moves_its_statistics_once_for_each():
    split, by_hand = _model("ResNet"), _model("ResNet")
    _learned(split, micro=5)
    image, _, _ = _batch()
    with torch.no_grad():
        for part in image.split(5):
            by_hand.encode_image(_prepared(part))
    found, expected = split.visual.bn1, by_hand.visual.bn1
    torch.testing.assert_close(found.running_mean, expected.running_mean)
    assert found.num_batches_tracked == 3
