"""Texts cut by open_clip's SimpleTokenizer and by transformers' CLIPTokenizer, with given merges.

argv    the file to write, texts as JSON, a merges file, a folder with a tokenizer
"""

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

import ftfy  # noqa: E402
from open_clip.tokenizer import SimpleTokenizer  # noqa: E402
from transformers import AutoTokenizer  # noqa: E402


def main():
    out, texts, merges, folder = sys.argv[1:]
    texts = json.loads(Path(texts).read_text())
    simple, hugging = SimpleTokenizer(merges), AutoTokenizer.from_pretrained(folder)
    told = {
        "vocabulary": [simple.vocab_size, len(hugging)],
        "ends": [
            [simple.sot_token_id, simple.eot_token_id],
            [hugging.bos_token_id, hugging.eos_token_id],
        ],
        "open_clip": [simple.encode(text) for text in texts],
        "transformers": [hugging(text).input_ids[1:-1] for text in texts],
        "fixed": [ftfy.fix_text(text) for text in texts],
    }
    Path(out).write_text(json.dumps(told))


if __name__ == "__main__":
    main()
