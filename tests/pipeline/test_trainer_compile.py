"""Compiled blocks: the numbers of blocks that are not, and few graphs."""

import copy
import os
import shutil

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch._dynamo.utils import counters
from torch.nn.parallel import DistributedDataParallel

from pipeline.trainer.architectures import ARCHITECTURES, Architecture
from pipeline.trainer.model import CLIP, compile_blocks
from pipeline.trainer.text_groups import groups_of

pytestmark = [
    pytest.mark.usefixtures("small_groups"),
    # Dynamo looks at what autograd warns of, and hides that warning where it is not an error.
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning"),
]

VIT = Architecture(32, 32, (3,), 64, 16, 64, 3, 77)
RESNET = Architecture(32, 64, (2, 2, 1, 1), 16, None, 64, 3, 77)
NO_COMPILER = shutil.which(os.environ.get("CXX", "g++")) is None


@pytest.fixture(autouse=True)
def _forget():
    """Graphs of other tests are none of this one's."""
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def _model(arch):
    torch.manual_seed(0)
    return CLIP(arch, 600).train()


def _batch(arch, lengths):
    tokens = torch.randint(1, 598, (len(lengths), 77))
    for row, length in zip(tokens, lengths, strict=True):
        row[length - 1 :] = 0
        row[length - 1] = 599
    return torch.randn(len(lengths), 3, arch.resolution, arch.resolution), tokens


def _gradients(model, images, tokens, groups=None):
    image_BE, text_BE, scale = model(images, tokens, groups)
    (scale * (image_BE * text_BE).sum()).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("arch", [VIT, RESNET], ids=["ViT", "ResNet"])
def test_compiled_blocks_teach_what_others_teach(arch):
    model = _model(arch)
    compiled = copy.deepcopy(model)
    compile_blocks(compiled, backend="aot_eager")
    images, tokens = _batch(arch, [5, 12, 9, 8])
    groups = groups_of(np.array([5, 12, 9, 8]), 2)
    found = _gradients(compiled, images, tokens, groups)
    assert counters["stats"]["unique_graphs"] > 0
    for name, wanted in _gradients(model, images, tokens, groups).items():
        _assert_near(found[name], wanted, name)
    assert compiled.state_dict().keys() == model.state_dict().keys()


@pytest.mark.skipif(NO_COMPILER, reason="torch.compile on a CPU needs a C++ compiler: install g++")
def test_kernels_of_the_compiler_compute_what_torchs_own_compute():
    # One block of texts: each graph takes the compiler many seconds.
    model = _model(Architecture(32, 32, (1,), 64, 16, 64, 1, 77))
    compiled = copy.deepcopy(model)
    compile_blocks(compiled)
    _, tokens = _batch(VIT, [5, 12, 16])
    for each in (model, compiled):
        each.encode_text(tokens[:, :16]).square().sum().backward()
    assert counters["inductor"]
    for name, parameter in model.transformer.named_parameters():
        _assert_near(compiled.transformer.get_parameter(name).grad, parameter.grad, name)


def _assert_near(found, wanted, name):
    size = wanted.abs().max().clamp(min=1)
    assert (found - wanted).abs().max() / size < 1e-5, name


def test_a_graph_serves_every_block_of_a_kind_and_there_are_few_kinds():
    model = _model(VIT)
    compile_blocks(model, backend="eager")
    for length in (2, *range(9, 77, 3), 76, 77):
        images, tokens = _batch(VIT, [length] * 4)
        model(images, tokens, groups_of(np.full(4, length), 2))
    # Ten lengths of text and one of images; a block in the middle and the last.
    assert counters["stats"]["unique_graphs"] == 11 * 2


def test_a_block_inside_of_ddp_stays_one_graph(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        # A block's gradients fill more than a bucket of 1 MiB, the least that DDP takes.
        model = _model(Architecture(32, 32, (3,), 512, 16, 64, 3, 77))
        graphs = []
        compile_blocks(model, backend=lambda graph, _: graphs.append(graph) or graph)
        images, tokens = _batch(VIT, [9] * 4)
        DistributedDataParallel(model, bucket_cap_mb=1)(images, tokens)
    finally:
        dist.destroy_process_group()
    assert len(graphs) == 2 * 2


def test_every_shape_of_the_papers_models_stays_below_the_limit_of_graphs():
    for name in ("RN50x4", "ViT-B/32"):
        torch._dynamo.reset()
        counters.clear()
        arch = ARCHITECTURES[name]
        with torch.device("meta"):
            model = CLIP(arch, 600)
            images = torch.empty(2, 3, arch.resolution, arch.resolution)
        compile_blocks(model, backend="eager")
        for training in (True, False):
            with torch.set_grad_enabled(training):
                model.train(training).encode_image(images)
        assert counters["stats"]["unique_graphs"] <= 2 * 8


def test_what_is_computed_again_is_compiled_too():
    model = _model(RESNET)
    plain = copy.deepcopy(model)
    model.spare(pool_last_block=True, gradient_checkpointing=True)
    compile_blocks(model, backend="eager")
    images, tokens = _batch(RESNET, [5, 7])
    found, wanted = _gradients(model, images, tokens), _gradients(plain, images, tokens)
    assert counters["stats"]["unique_graphs"] > 0
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, msg=name)
    for name, value in plain.named_buffers():
        torch.testing.assert_close(model.get_buffer(name), value, rtol=0, atol=0)
