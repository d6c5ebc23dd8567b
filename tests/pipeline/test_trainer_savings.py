"""What a training saves in work and in memory changes no embedding and no gradient."""

from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.trainer.architectures import Architecture
from pipeline.trainer.model import CLIP
from pipeline.trainer.text_groups import groups_of

pytestmark = pytest.mark.usefixtures("small_groups")

CONTEXT, VOCABULARY = 77, 600
VIT = Architecture(32, 32, (2,), 64, 16, 64, 3, CONTEXT)
RESNET = Architecture(32, 64, (2, 1, 1, 1), 16, None, 64, 1, CONTEXT)
EVERY_LENGTH = tuple(range(2, CONTEXT + 1))
LENGTHS = {
    "every length up to the context": EVERY_LENGTH,
    "all of one length": (9,) * 12,
    "all as long as the context": (CONTEXT,) * 5,
    "a single text": (5,),
    "the least text there is": (2, 2, 77),
}


def _texts(lengths):
    """Texts that end where they are told to, in no order, padded to the context."""
    rng = np.random.default_rng(0)
    lengths = rng.permutation(np.array(lengths, dtype=np.int64))
    tokens = np.zeros((len(lengths), CONTEXT), np.int64)
    for row, length in zip(tokens, lengths, strict=True):
        row[:length] = rng.integers(1, VOCABULARY - 2, length)
        row[0], row[length - 1] = VOCABULARY - 2, VOCABULARY - 1
    return torch.from_numpy(tokens), lengths


def _model(arch, **savings):
    """In float64, with nothing left at zero that a fresh model begins with."""
    torch.manual_seed(0)
    model = CLIP(arch, VOCABULARY, **savings).double().train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def _images(arch, count):
    torch.manual_seed(1)
    return torch.randn(count, 3, arch.resolution, arch.resolution, dtype=torch.float64)


def _learned(model, images, tokens, groups=None):
    """The embeddings, and the gradient of every parameter for a loss that uses all of them."""
    image_BE, text_BE, scale = model(images, tokens, groups)
    torch.manual_seed(2)
    weights = torch.randn_like(image_BE), torch.randn_like(text_BE)
    (scale * ((image_BE * weights[0]).sum() + (text_BE * weights[1]).square().sum())).backward()
    return {"image": image_BE, "text": text_BE} | {
        name: parameter.grad for name, parameter in model.named_parameters()
    }


def _assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert value is not None, f"{name} has no gradient"
        size = value.abs().max().clamp(min=1)
        apart = ((found[name] - value).abs().max() / size).item()
        assert apart <= 1e-12, f"{name} is {apart} apart"


@cache
def _plain(arch, lengths):
    """What a model that saves nothing learns from texts of these lengths."""
    tokens, _ = _texts(lengths)
    return _learned(_model(arch, pool_last_block=False), _images(arch, len(tokens)), tokens)


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("groups", [1, 3, 8])
def test_texts_in_groups_of_like_length_teach_the_same(lengths, groups):
    tokens, lengths_B = _texts(lengths)
    images = _images(VIT, len(tokens))
    found = _learned(
        _model(VIT, pool_last_block=False), images, tokens, groups_of(lengths_B, groups)
    )
    _assert_same(found, _plain(VIT, lengths))


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_the_position_that_is_read_alone_teaches_the_same(lengths):
    tokens, _ = _texts(lengths)
    images = _images(VIT, len(tokens))
    found = _learned(_model(VIT, pool_last_block=True), images, tokens)
    _assert_same(found, _plain(VIT, lengths))


@pytest.mark.parametrize("arch", [VIT, RESNET], ids=["ViT", "ResNet"])
def test_what_is_computed_again_teaches_the_same(arch):
    lengths = (3, 77, 12, 20)
    tokens, lengths_B = _texts(lengths)
    images = _images(arch, len(tokens))
    found = _learned(
        _model(arch, gradient_checkpointing=True), images, tokens, groups_of(lengths_B, 2)
    )
    _assert_same(found, _plain(arch, lengths))


def test_a_model_that_computes_again_keeps_less_for_the_backward_pass():
    tokens, _ = _texts([20] * 4)

    def kept(arch, *, again):
        model, images, sizes = _model(arch, gradient_checkpointing=again), _images(arch, 4), {}

        def note(tensor):
            sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            model(images, tokens)
        return sum(sizes.values()) - sum(p.numel() for p in model.parameters())

    for arch in (VIT, RESNET):
        assert kept(arch, again=True) < kept(arch, again=False) / 2


def test_statistics_move_once_with_each_batch_though_blocks_are_computed_twice():
    tokens, _ = _texts([5, 9, 3])
    images = _images(RESNET, 3)
    moved = {}
    for again in (False, True):
        model = _model(RESNET, gradient_checkpointing=again)
        first = {name: value.clone() for name, value in model.named_buffers()}
        for _ in range(2):
            _learned(model, images, tokens)
        moved[again] = dict(model.named_buffers())
        assert moved[again].keys() == first.keys()
        assert not any(torch.equal(first[name], value) for name, value in moved[again].items())
        counts = [v for name, v in moved[again].items() if name.endswith("num_batches_tracked")]
        assert {count.item() for count in counts} == {2}
    assert all(torch.equal(moved[True][name], value) for name, value in moved[False].items())


def test_two_forward_passes_before_their_backward_are_computed_again_each_by_itself():
    tokens, _ = _texts([5, 9, 3])
    gradients = []
    for again in (False, True):
        model = _model(RESNET, gradient_checkpointing=again)
        first, second = (model(_images(RESNET, 3) * size, tokens)[0] for size in (1, 2))
        (first * second).sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if "visual" in name})
    _assert_same(gradients[1], gradients[0])


def test_an_embedding_that_needs_no_gradient_is_not_computed_through_checkpoints():
    tokens, _ = _texts([5, 9, 3])
    model = _model(VIT, gradient_checkpointing=True).eval()
    with torch.inference_mode():
        found = model.encode_text(tokens)
    torch.testing.assert_close(found, _model(VIT).encode_text(tokens).detach(), rtol=0, atol=0)


def test_savings_can_be_changed_on_a_model_that_is_there():
    model = _model(VIT)
    model.spare(pool_last_block=False, gradient_checkpointing=True)
    for transformer in (model.transformer, model.visual.transformer):
        assert transformer.gradient_checkpointing
        assert not transformer.pool_last_block


def test_a_group_of_few_texts_is_not_made(monkeypatch):
    monkeypatch.undo()
    lengths = np.arange(2, 26)
    assert [len(group.rows) for group in groups_of(lengths, 8)] == [8, 8, 8]
    assert [len(group.rows) for group in groups_of(lengths[:23], 8)] == [12, 11]
    assert [len(group.rows) for group in groups_of(lengths[:3], 8)] == [3]


def test_groups_hold_every_row_once_by_length_and_cut_no_text():
    lengths = np.random.default_rng(3).integers(2, 78, 67)
    groups = groups_of(lengths, 8)
    assert sorted(torch.cat([group.rows for group in groups]).tolist()) == list(range(67))
    assert [len(group.rows) for group in groups] == [9, 9, 9, 8, 8, 8, 8, 8]
    assert [group.length for group in groups] == sorted(group.length for group in groups)
    for group in groups:
        longest = lengths[group.rows.numpy()].max()
        assert longest <= group.length < longest + 8
        assert group.length % 8 == 0 or group.length == 77


def test_texts_of_one_length_keep_their_order():
    groups = groups_of(np.array([5, 4, 5, 4, 5, 4]), 2)
    assert [group.rows.tolist() for group in groups] == [[1, 3, 5], [0, 2, 4]]


def test_fewer_texts_than_groups_are_a_group_each():
    groups = groups_of(np.array([30, 2]), 8)
    assert [(group.rows.tolist(), group.length) for group in groups] == [([1], 8), ([0], 32)]


def test_a_text_as_long_as_the_context_is_not_computed_beyond_it():
    assert groups_of(np.array([77]), 1)[0].length == 77
    assert groups_of(np.array([30]), 1, context=30)[0].length == 30


def test_groups_may_be_longer_than_the_cut_batch():
    tokens, lengths_B = _texts([3, 5, 6])
    model, groups = _model(VIT), groups_of(lengths_B, 2, step=64)
    torch.testing.assert_close(
        model.encode_text(tokens[:, :6], groups), model.encode_text(tokens), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("arch", [VIT, RESNET], ids=["ViT", "ResNet"])
def test_every_parameter_takes_part_in_one_forward_pass(arch):
    tokens, lengths_B = _texts([3, 77, 12])
    model = _model(arch)
    learned = _learned(model, _images(arch, 3), tokens, groups_of(lengths_B, 2))
    still = {name for name, gradient in learned.items() if gradient is None}
    assert still == set()


def test_patches_are_those_of_the_convolution_whose_name_they_carry():
    visual, images = _model(VIT).visual, _images(VIT, 3)
    wanted = visual.conv1(images).flatten(2).transpose(1, 2)
    for laid in (images, images.contiguous(memory_format=torch.channels_last)):
        torch.testing.assert_close(visual.patches(laid), wanted, rtol=0, atol=1e-12)


def test_the_edge_of_an_image_that_fills_no_patch_is_left_out_as_a_convolution_does():
    visual = _model(VIT).visual
    images = torch.randn(2, 3, 37, 45, dtype=torch.float64)
    wanted = visual.conv1(images).flatten(2).transpose(1, 2)
    torch.testing.assert_close(visual.patches(images), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("arch", [VIT, RESNET], ids=["ViT", "ResNet"])
def test_in_half_precision_nothing_between_the_blocks_is_full(arch):
    tokens, _ = _texts([3, 77])
    model = _model(arch).float()
    kinds = {}

    def note(name):
        def hook(_, given, out):
            kinds[name] = {given[0].dtype, out.dtype}

        return hook

    watched = ("ResidualBlock", "Bottleneck", "LayerNorm", "BatchNorm2d", "AttentionPool")
    for name, part in model.named_modules():
        if type(part).__name__ in watched:
            part.register_forward_hook(note(name))
    with torch.autocast("cpu", torch.bfloat16):
        image_BE, text_BE, scale = model(_images(arch, 2).float(), tokens)
    assert kinds.keys() >= {"ln_final", "transformer.resblocks.0"}
    assert {name for name, seen in kinds.items() if seen != {torch.bfloat16}} == set()
    assert (image_BE.dtype, text_BE.dtype, scale.dtype) == (
        torch.bfloat16,
        torch.bfloat16,
        torch.float32,
    )


def test_a_layer_norm_of_halves_is_computed_in_full():
    torch.manual_seed(0)
    norm = _model(VIT).ln_final.float()
    x = (torch.randn(4, 64) * 100 + 1000).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = norm(x)
    wanted = nn.functional.layer_norm(x.float(), (64,), norm.weight, norm.bias)
    torch.testing.assert_close(found, wanted.bfloat16(), rtol=0, atol=0)


def test_the_exact_gelu_can_be_asked_for_and_is_another_function():
    tokens, _ = _texts([9, 4])
    quick, exact = _model(VIT), _model(VIT, activation="gelu")
    assert quick.state_dict().keys() == exact.state_dict().keys()
    apart = (quick.encode_text(tokens) - exact.encode_text(tokens)).abs().max()
    assert apart > 1e-4
    x = torch.randn(50, dtype=torch.float64)
    torch.testing.assert_close(
        quick.transformer.resblocks[0].mlp.gelu(x), x * (1.702 * x).sigmoid()
    )
    for blocks in (exact.transformer.resblocks, exact.visual.transformer.resblocks):
        torch.testing.assert_close(blocks[0].mlp.gelu(x), nn.functional.gelu(x))
