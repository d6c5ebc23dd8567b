"""Texts cut by open_clip's SimpleTokenizer and by transformers' CLIPTokenizer, with given merges.

argv    the file to write, texts as JSON, a merges file, a folder with a tokenizer
"""

import json
import sys
from pathlib import Path

import torchvision_operators  # noqa: F401

# What others import asks for those operators.
# isort: split
import ftfy
from open_clip.tokenizer import SimpleTokenizer
from transformers import AutoTokenizer


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
