"""The loss in tiles: what a dense one of a few lines says, and no more memory than a tile's."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.trainer.loss import contrastive


def _dense(image_BE, text_BE, logit_scale, rounded=lambda tensor: tensor):
    """Figure 3 of the paper; autograd finds the gradients. Logits can be `rounded`."""
    image_BE, text_BE = rounded(F.normalize(image_BE)), rounded(F.normalize(text_BE))
    logits_BB = rounded(logit_scale.exp() * image_BE @ text_BE.T)
    own_B = torch.arange(len(logits_BB))
    return (F.cross_entropy(logits_BB, own_B) + F.cross_entropy(logits_BB.T, own_B)) / 2


def _learned(loss, image_BE, text_BE, scale, **settings):
    """The loss, and its gradients by the three."""
    leaves = [image_BE, text_BE, torch.tensor(math.log(scale), dtype=image_BE.dtype)]
    leaves = [leaf.clone().requires_grad_() for leaf in leaves]
    value = loss(*leaves, **settings)
    value.backward()
    return value.detach(), *(leaf.grad for leaf in leaves)


def _features(pairs, width=12, dtype=torch.float64):
    """Images, and texts that are somewhat like them."""
    chance = torch.Generator().manual_seed(0)
    image, text = torch.randn(2, pairs, width, generator=chance, dtype=dtype)
    return image, text + image / 3


def _check(image_BE, text_BE, scale, **settings):
    ours = _learned(contrastive, image_BE, text_BE, scale, **settings)
    theirs = _learned(_dense, image_BE, text_BE, scale)
    for mine, dense in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, dense, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("tile", [1, 4, 5, 7, 19, 20, 64])
def test_tiles_of_any_size_give_the_loss_and_the_gradients_of_the_dense_one(tile):
    _check(*_features(20), 1 / 0.07, tile=tile)


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_the_loss_is_the_dense_one_at_any_scale(scale):
    _check(*_features(20), scale, tile=6)


@pytest.mark.parametrize("tile", [1, 8])
def test_a_single_pair_has_no_loss_and_no_gradient(tile):
    value, *gradients = _learned(contrastive, *_features(1), 100.0, tile=tile)
    assert value == 0
    assert all(gradient.abs().max() < 1e-13 for gradient in gradients)


@pytest.mark.parametrize("tile", [3, 16])
def test_features_that_are_all_the_same_cost_the_logarithm_of_their_number(tile):
    image = torch.ones(10, 8, dtype=torch.float64)
    _check(image, image, 100.0, tile=tile)
    value = contrastive(image, image, torch.tensor(4.0), tile=tile)
    assert value.item() == pytest.approx(math.log(10))


def test_a_feature_of_zeros_is_like_nothing_and_breaks_nothing():
    image, text = _features(9)
    image[4] = text[7] = 0
    _check(image, text, 100.0, tile=4)


def test_pairs_that_are_as_unlike_as_can_be_keep_their_loss():
    # e to the power of -200 is no number of fp32; its logarithm is.
    image, text = torch.eye(2), -torch.eye(2)
    scale = torch.tensor(math.log(100))
    for tile in (1, 2):
        assert contrastive(image, text, scale, tile=tile).item() == pytest.approx(100)
        opposite = contrastive(
            torch.tensor([[1.0], [-1.0]]), torch.tensor([[-1.0], [1.0]]), scale, tile=tile
        )
        assert opposite.item() == pytest.approx(200)


@pytest.mark.parametrize("what", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("tile", [2, 8])
def test_a_feature_that_is_no_number_makes_a_loss_that_is_none(what, side, tile):
    features = _features(5, dtype=torch.float32)
    features[side][3, 2] = what
    value, *_ = _learned(contrastive, *features, 14.0, tile=tile)
    assert not value.isfinite()


@pytest.mark.parametrize("scale", [math.nan, math.inf])
def test_a_scale_that_is_no_number_makes_a_loss_that_is_none(scale):
    assert not contrastive(*_features(5), torch.tensor(scale), tile=2).isfinite()


@pytest.mark.parametrize("tile", [3, 16])
def test_what_comes_after_the_loss_scales_its_gradients(tile):
    image, text = _features(8)
    _, once, *_ = _learned(contrastive, image, text, 14.0, tile=tile)
    _, thrice, *_ = _learned(lambda *a: 3 * contrastive(*a, tile=tile), image, text, 14.0)
    torch.testing.assert_close(thrice, 3 * once, rtol=1e-12, atol=0)


def test_a_loss_without_gradients_has_the_same_value():
    image, text = _features(8)
    scale = torch.tensor(2.0)
    with torch.no_grad():
        value = contrastive(image.requires_grad_(), text, scale, tile=3)
    assert not value.requires_grad
    assert value == contrastive(image, text, scale, tile=3)


def test_a_batch_with_fewer_texts_than_images_is_refused():
    image, text = _features(8)
    with pytest.raises(ValueError, match=r"images \(8, 12\) and texts \(7, 12\)"):
        contrastive(image, text[:7], torch.tensor(0.0))


@pytest.mark.parametrize("pairs", [30, 64])
def test_no_tensor_larger_than_a_tile_or_the_features_is_made(pairs):
    class Largest(TorchDispatchMode):
        numbers = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            made = function(*args, **(kwargs or {}))
            for tensor in made if isinstance(made, (tuple, list)) else [made]:
                if isinstance(tensor, torch.Tensor):
                    self.numbers = max(self.numbers, tensor.numel())
            return made

    with Largest() as largest:
        _learned(contrastive, *_features(pairs, width=2), 14.0, tile=16)
    assert largest.numbers == 16 * 16


def _gradient_error(found, exact):
    (_, *found), (_, *exact) = found, exact
    return max(
        ((mine - theirs).norm() / theirs.norm()).item()
        for mine, theirs in zip(found, exact, strict=True)
    )


@pytest.mark.parametrize("scale", [1 / 0.07, 100.0])
def test_halves_summed_in_full_err_less_than_logits_that_are_halves(scale):
    image, text = _features(256, 64, dtype=torch.float32)
    exact = _learned(_dense, image.double(), text.double(), scale)
    full = _gradient_error(_learned(contrastive, image, text, scale), exact)
    half = _gradient_error(_learned(contrastive, image, text, scale, half=True), exact)
    in_tiles = _gradient_error(
        _learned(contrastive, image, text, scale, half=True, tile=100), exact
    )
    rounded = _gradient_error(
        _learned(_dense, image, text, scale, rounded=lambda t: t.bfloat16().float()), exact
    )
    assert full < 2e-5
    assert half < rounded / 1.3
    assert in_tiles < rounded / 1.3


def test_single_precision_in_tiles_is_as_good_as_in_one():
    image, text = _features(300, 64, dtype=torch.float32)
    exact = _learned(_dense, image.double(), text.double(), 100.0)
    for tile in (64, 512):
        found = _learned(contrastive, image, text, 100.0, tile=tile)
        assert _gradient_error(found, exact) < 1e-5
        assert found[0].item() == pytest.approx(exact[0].item(), rel=1e-6)
