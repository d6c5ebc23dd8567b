"""Readme: the model card of an exported folder."""

from pipeline.trainer.architectures import architecture
from pipeline.trainer.weights import Weights

_OPEN_CLIP = """\
import open_clip
model, _, preprocess = open_clip.create_model_and_transforms("local-dir:FOLDER")
tokenizer = open_clip.get_tokenizer("local-dir:FOLDER")  # by transformers
# Or without transformers:
tokenizer = open_clip.SimpleTokenizer("FOLDER/vocabulary.txt.gz", context_length={context})
"""
_HUGGING_FACE = """\
from transformers import pipeline
classify = pipeline("zero-shot-image-classification", model="FOLDER")
classify("photo.jpg", candidate_labels=["a cat", "a dog"])
"""


def card(weights: Weights, notes: dict[str, str], *, is_open_clip: bool) -> str:
    """README.md; `notes` are lines of the table, by name."""
    arch = architecture(weights.model)
    count = sum(value.numel() for value in weights.state.values() if value.is_floating_point())
    rows = {
        "architecture": weights.model,
        "numbers": f"{count:,}, in float32",
        "embedding": str(arch.embed),
        "image": f"{arch.resolution} x {arch.resolution} pixels",
        "text": f"up to {weights.context} tokens of {weights.vocabulary:,}",
        "activation": weights.activation,
        **notes,
    }
    library = "open_clip" if is_open_clip else "transformers"
    code = _OPEN_CLIP.format(context=weights.context) if is_open_clip else _HUGGING_FACE
    table = "".join(f"| {name} | {value} |\n" for name, value in rows.items())
    return f"""---
library_name: {library}
pipeline_tag: zero-shot-image-classification
tags:
- clip
---

# A CLIP, {weights.model}

An image encoder and a text encoder that end in one space, exported by webimagetext.

| | |
| --- | --- |
{table}
```python
{code}```

Images are resized until their shorter side fits (bicubic), cut to a square in the middle, and
normalised with CLIP's mean and deviation. Texts are put into lower case and cut by the vocabulary
in this folder and no other: token {weights.vocabulary - 2} starts a text and token
{weights.vocabulary - 1} ends it. `<|startoftext|>` and `<|endoftext|>` in a text are text.

What the pairs that it learned from show and say, it may repeat: before it is used, measure it on
your own task and for the groups of people that it will meet.
"""
