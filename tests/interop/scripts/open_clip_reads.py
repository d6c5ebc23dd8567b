"""Reads shards as open_clip's training does: its arguments, its transforms, its tokenizer.

argv    the file to write, its name for the shards, samples to a batch, workers
"""

import hashlib
import json
import sys
from importlib.util import find_spec
from pathlib import Path

import torch

# torchvision's compiled operators are built for CUDA's torch, and do not load beside one for CPUs.
# No image goes through them: to declare the two that the import asks for is enough.
_COMPILED = next(Path(find_spec("torchvision").origin).parent.glob("_C*.so"))
try:
    torch.ops.load_library(str(_COMPILED))
except OSError:
    _LIBRARY = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        _LIBRARY.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import open_clip  # noqa: E402
from open_clip_train.data import get_data  # noqa: E402
from open_clip_train.params import parse_args  # noqa: E402

_SIDE = 64


def _loader(shards, batch_size, workers, preprocess, tokenizer):
    given = ["--train-data", shards, "--dataset-type", "webdataset"]
    args = parse_args([*given, "--batch-size", batch_size, "--workers", workers])
    # What open_clip's main sets on one machine.
    args.world_size, args.rank, args.distributed = 1, 0, False
    return get_data(args, (preprocess, preprocess), tokenizer=tokenizer)["train"].dataloader


def _pixels(image):
    return hashlib.sha256(image.tobytes()).hexdigest()


def _as_it_is(text):
    return [text]


def main():
    out, *given = sys.argv[1:]
    transform = open_clip.image_transform(_SIDE, is_train=True)
    loader = _loader(*given, transform, open_clip.get_tokenizer("ViT-B-32"))
    told = {"samples": loader.num_samples, "batches": loader.num_batches}
    told["shapes"] = [[list(images.shape), list(texts.shape)] for images, texts in loader]
    plain = _loader(*given, _pixels, _as_it_is)
    told["seen"] = [pair for images, texts in plain for pair in zip(images, texts, strict=True)]
    Path(out).write_text(json.dumps(told))


if __name__ == "__main__":
    main()
