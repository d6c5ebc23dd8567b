"""Steps of open_clip's training, one for each line that is asked for on standard input.

A line is JSON: `make` a model of given sizes, or do a `step`. The answer is a line of JSON on
standard output. What a step does is open_clip_train.train.train_one_epoch, without distillation.
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.append(str(Path(__file__).parents[2] / "tests" / "interop" / "scripts"))
import torchvision_operators  # noqa: F401

# What others import asks for those operators.
# isort: split
import open_clip
from open_clip.loss import ClipLoss
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from open_clip_train.precision import get_autocast
from open_clip_train.train import backward, unwrap_model


class Steps:
    """A model, its loss and its optimizer, as open_clip's main makes them."""

    def __init__(self, sizes, weights, images, tokens, precision, threads):
        torch.set_num_threads(threads)
        layers = sizes["layers"]
        vision = CLIPVisionCfg(
            layers=layers[0] if sizes["patch"] else tuple(layers),
            width=sizes["width"],
            patch_size=sizes["patch"],
            image_size=sizes["resolution"],
        )
        text = CLIPTextCfg(
            context_length=sizes["context"],
            vocab_size=sizes["vocabulary"],
            width=sizes["text_width"],
            heads=sizes["text_width"] // 64,
            layers=sizes["text_layers"],
        )
        self.model = CLIP(sizes["embed"], vision, text, quick_gelu=True, output_dict=True)
        self.model.load_state_dict(torch.load(weights, weights_only=True), strict=True)
        self.model.train()
        self.images = torch.from_numpy(np.load(images))
        self.tokens = torch.from_numpy(np.load(tokens))
        self.loss = ClipLoss(cache_labels=True)
        self.autocast = get_autocast(precision, device_type="cpu")
        kept = {True: [], False: []}
        for name, weight in self.model.named_parameters():
            is_plain = weight.ndim < 2 or any(part in name for part in ("bn", "ln", "bias"))
            kept[is_plain or "logit_scale" in name].append(weight)
        groups = [
            {"params": kept[True], "weight_decay": 0.0},
            {"params": kept[False], "weight_decay": 0.2},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=sizes["lr"], betas=(0.9, 0.98), eps=1e-6)

    def step(self):
        self.optimizer.zero_grad()
        with self.autocast():
            out = self.model(self.images, self.tokens)
            losses = self.loss(**out, output_dict=True)
            total = sum(losses.values())
        backward(total, None)
        self.optimizer.step()
        with torch.no_grad():
            unwrap_model(self.model).logit_scale.clamp_(0, np.log(100))
        return total.item()


def main():
    # Whatever a library prints must not pass for an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    steps = None
    for line in sys.stdin:
        asked = json.loads(line)
        cpu, wall = time.process_time(), time.perf_counter()
        if asked.pop("do") == "make":
            steps = None
            steps = Steps(**asked)
            told = {"version": open_clip.__version__}
        else:
            told = {"loss": steps.step()}
        told |= {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
        answers.write(json.dumps(told) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
