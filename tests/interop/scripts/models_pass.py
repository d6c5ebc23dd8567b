"""Models as open_clip and transformers load and save them: embeddings of given images and texts.

argv    what to do, the folder to read, the file or folder to write
"""

import json
import sys
from pathlib import Path

import torch
import torchvision_operators  # noqa: F401
from safetensors.torch import load_file, save_file

# What others import asks for those operators.
# isort: split
import open_clip
from PIL import Image
from transformers import AutoTokenizer, CLIPConfig, CLIPModel, pipeline

torch.set_grad_enabled(False)
given = load_file(Path(sys.argv[2]) / "given.safetensors")
texts = json.loads((Path(sys.argv[2]) / "texts.json").read_text())


def _of_open_clip(model, tokens):
    model.eval()
    return {
        "image": model.encode_image(given["image"]),
        "text": model.encode_text(tokens),
        "scale": model.logit_scale.exp(),
    }


def read_open_clip(folder, out):
    name = f"local-dir:{folder}"
    model, _, _ = open_clip.create_model_and_transforms(name, require_pretrained=True)
    theirs = open_clip.get_tokenizer(name)(texts)
    context = theirs.shape[1]
    plain = open_clip.SimpleTokenizer(f"{folder}/vocabulary.txt.gz", context_length=context)(texts)
    told = _of_open_clip(model, given["tokens"])
    told |= {"by_tokenizer": model.encode_text(theirs), "by_merges": model.encode_text(plain)}
    save_file(told, out)


def read_openai(path, out):
    model = open_clip.load_openai_model(str(path), precision="fp32", device="cpu")
    save_file(_of_open_clip(model, given["tokens"]), out)


def read_transformers(folder, out):
    model, tokenizer = (
        CLIPModel.from_pretrained(folder).eval(),
        AutoTokenizer.from_pretrained(folder),
    )
    told = model(pixel_values=given["image"], input_ids=given["tokens"])
    cut = tokenizer(texts, padding=True, return_tensors="pt")
    by_tokenizer = model(pixel_values=given["image"], **cut).logits_per_image
    told = {"logits": told.logits_per_image, "by_tokenizer": by_tokenizer}
    classify = pipeline("zero-shot-image-classification", model=str(folder))
    image = Image.fromarray(given["photo"].numpy())
    inputs = classify.image_processor(image, return_tensors="pt")["pixel_values"]
    found = {
        said["label"]: said["score"]
        for said in classify(image, candidate_labels=texts, hypothesis_template="{}")
    }
    told |= {"pixels": inputs, "scores": torch.tensor([found[text] for text in texts])}
    save_file({name: value.contiguous() for name, value in told.items()}, out)


def write(config, out):
    """Fresh models of theirs, saved by them, and what they make of the inputs."""
    sizes = json.loads(Path(config).read_text())
    for quick in (True, False):
        torch.manual_seed(0)
        folder = out / f"open_clip_{quick}"
        folder.mkdir(parents=True)
        model = open_clip.CLIP(**sizes["open_clip"], quick_gelu=quick).eval()
        told = {"model_cfg": {**sizes["open_clip"], "quick_gelu": quick}, "preprocess_cfg": {}}
        (folder / "open_clip_config.json").write_text(json.dumps(told))
        torch.save({"state_dict": model.state_dict(), "epoch": 1}, folder / "epoch_1.pt")
        save_file(model.state_dict(), folder / "open_clip_model.safetensors")
        save_file(_of_open_clip(model, given["tokens"]), folder / "told.safetensors")
        theirs = sizes["transformers"]
        for tower in ("text_config", "vision_config"):
            theirs[tower]["hidden_act"] = "quick_gelu" if quick else "gelu"
        model = CLIPModel(CLIPConfig(**theirs)).eval()
        folder = out / f"transformers_{quick}"
        # In several files, so that there is an index.
        model.save_pretrained(folder, max_shard_size="1MB" if quick else "1GB")
        said = model(pixel_values=given["image"], input_ids=given["tokens"])
        save_file({"logits": said.logits_per_image.contiguous()}, folder / "told.safetensors")


if __name__ == "__main__":
    todo = {"open_clip": read_open_clip, "openai": read_openai, "transformers": read_transformers}
    {**todo, "write": write}[sys.argv[1]](Path(sys.argv[3]), Path(sys.argv[4]))
