"""FLOPs: those that torch counts, and those that are published."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pipeline.trainer.architectures import ARCHITECTURES
from pipeline.trainer.flops import image_flops, text_flops, training_flops
from pipeline.trainer.model import CLIP

PUBLISHED = {"ViT-B/32": 14.78, "ViT-B/16": 41.09, "ViT-L/14": 175.33, "ViT-L/14@336": 395.22}
"""Forward GFLOPs of a pair, from open_clip's docs/model_profile.csv."""


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_as_many_are_told_as_torch_counts(name):
    arch = ARCHITECTURES[name]
    with torch.device("meta"), torch.no_grad():
        model = CLIP(arch, 600, pool_last_block=False).eval()
        with FlopCounterMode(display=False) as of_image:
            model.encode_image(torch.empty(1, 3, arch.resolution, arch.resolution))
        with FlopCounterMode(display=False) as of_text:
            model.encode_text(torch.zeros(1, arch.context, dtype=torch.long))
    assert image_flops(arch) == of_image.get_total_flops()
    assert text_flops(arch) == of_text.get_total_flops()


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_training_costs_three_times_the_published_forward_pass(name):
    told = training_flops(ARCHITECTURES[name]) / 1e9
    assert told == pytest.approx(3 * PUBLISHED[name], rel=0.002)


@pytest.mark.parametrize("name", ["tiny", "tiny-RN"])
def test_the_backward_pass_costs_two_forward_passes(name):
    arch = ARCHITECTURES[name]
    with torch.device("meta"):
        model = CLIP(arch, 600, pool_last_block=False)
        # An image has no gradient in a training; with one, no product of the first layer is spared.
        image = torch.empty(2, 3, arch.resolution, arch.resolution, requires_grad=True)
        with FlopCounterMode(display=False) as counted:
            image_BE, text_BE, _ = model(image, torch.zeros(2, arch.context, dtype=torch.long))
            (image_BE.sum() + text_BE.sum()).backward()
    assert training_flops(arch) == counted.get_total_flops() / 2
