"""Reads shards as open_clip's training does: its arguments, its transforms, its tokenizer.

argv    the file to write, its name for the shards, samples to a batch, workers
"""

import hashlib
import json
import sys
from pathlib import Path

import torchvision_operators  # noqa: F401

# What others import asks for those operators.
# isort: split
import open_clip
from open_clip_train.data import get_data
from open_clip_train.params import parse_args

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
