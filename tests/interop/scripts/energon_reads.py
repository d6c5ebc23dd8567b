"""Reads a folder that `energon prepare` has prepared with NVIDIA Energon's loader.

argv    the file to write, the folder
"""

import hashlib
import json
import sys
from pathlib import Path

from megatron.energon import (
    DefaultTaskEncoder,
    SampleDecoder,
    WorkerConfig,
    get_savable_loader,
    get_val_dataset,
)


class _Encoded(DefaultTaskEncoder):
    decoder = None


class _Decoded(DefaultTaskEncoder):
    decoder = SampleDecoder(image_decode="pilrgb")


def _read(folder, encoder):
    alone = WorkerConfig(rank=0, world_size=1, num_workers=0)
    given = {"split_part": "train", "worker_config": alone, "batch_size": None}
    return get_savable_loader(get_val_dataset(folder, **given, task_encoder=encoder))


def main():
    out, folder = sys.argv[1:]
    samples = [
        {
            "key": sample.__key__,
            "caption": sample.caption.decode(),
            "digest": hashlib.sha256(sample.image).hexdigest(),
        }
        for sample in _read(folder, _Encoded())
    ]
    for told, sample in zip(samples, _read(folder, _Decoded()), strict=True):
        told["size"] = sample.image.size
        assert (sample.__key__, sample.caption) == (told["key"], told["caption"])
    Path(out).write_text(json.dumps(samples))


if __name__ == "__main__":
    main()
