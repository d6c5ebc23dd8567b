"""Computes logits with our weights in the models of open_clip and of transformers.

argv    the file to write, whose model (`open_clip` or `transformers`), its name in open_clip, its
        activation, our weights in OpenAI's names, the images and tokens
"""

import json
import sys
from pathlib import Path

import torch
import torchvision_operators  # noqa: F401
from safetensors.torch import load_file


def _open_clip(name, state):
    import open_clip

    model = open_clip.create_model(name, load_weights=False, precision="fp32", device="cpu")
    model.load_state_dict(state, strict=True, assign=True)
    return model.eval()


def _transformers(activation, state):
    from transformers import CLIPConfig, CLIPModel

    width, _, patch, _ = state["visual.conv1.weight"].shape
    positions = len(state["visual.positional_embedding"])
    vocabulary, text_width = state["token_embedding.weight"].shape
    config = CLIPConfig(
        projection_dim=state["text_projection"].shape[1],
        text_config={
            **_sizes("transformer", text_width, activation, state),
            "vocab_size": vocabulary,
            "max_position_embeddings": len(state["positional_embedding"]),
            "bos_token_id": vocabulary - 2,
            "eos_token_id": vocabulary - 1,
        },
        vision_config={
            **_sizes("visual.transformer", width, activation, state),
            "image_size": round((positions - 1) ** 0.5) * patch,
            "patch_size": patch,
        },
    )
    with torch.device("meta"):
        model = CLIPModel(config)
    missing, unknown = model.load_state_dict(_renamed(state), strict=False, assign=True)
    assert not unknown, unknown
    assert not missing, missing
    for part in (model.text_model, model.vision_model):
        embeddings = part.embeddings
        # A buffer that no checkpoint holds.
        embeddings.position_ids = torch.arange(embeddings.position_embedding.num_embeddings)[None]
    return model.eval()


def _sizes(tower, width, activation, state):
    blocks = f"{tower}.resblocks."
    layers = {n[len(blocks) :].split(".")[0] for n in state if n.startswith(blocks)}
    return {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": len(layers),
        "num_attention_heads": width // 64,
        "hidden_act": activation,
    }


_NAMES = (
    ("visual.class_embedding", "vision_model.embeddings.class_embedding"),
    ("visual.positional_embedding", "vision_model.embeddings.position_embedding.weight"),
    ("visual.conv1.", "vision_model.embeddings.patch_embedding."),
    ("visual.ln_pre.", "vision_model.pre_layrnorm."),
    ("visual.ln_post.", "vision_model.post_layernorm."),
    ("visual.transformer.resblocks.", "vision_model.encoder.layers."),
    ("visual.proj", "visual_projection.weight"),
    ("transformer.resblocks.", "text_model.encoder.layers."),
    ("token_embedding.", "text_model.embeddings.token_embedding."),
    ("positional_embedding", "text_model.embeddings.position_embedding.weight"),
    ("ln_final.", "text_model.final_layer_norm."),
    ("text_projection", "text_projection.weight"),
    ("logit_scale", "logit_scale"),
)
_WITHIN = (
    (".attn.", ".self_attn."),
    (".ln_1.", ".layer_norm1."),
    (".ln_2.", ".layer_norm2."),
    (".mlp.c_fc.", ".mlp.fc1."),
    (".mlp.c_proj.", ".mlp.fc2."),
)


def _renamed(state):
    out = {}
    for name, value in state.items():
        old, new = next(pair for pair in _NAMES if name.startswith(pair[0]))
        name = new + name[len(old) :]
        for inner in _WITHIN:
            name = name.replace(*inner)
        if "in_proj_" in name:
            for part, third in zip("qkv", value.chunk(3), strict=True):
                out[name.replace("in_proj_", f"{part}_proj.")] = third
        else:
            out[name] = value.T if old in ("visual.proj", "text_projection") else value
    return out


def main():
    out, whose, name, activation, weights, inputs = sys.argv[1:]
    state, given = load_file(weights), load_file(inputs)
    with torch.inference_mode():
        if whose == "open_clip":
            model = _open_clip(name, state).to(given["images"].dtype)
            image = model.encode_image(given["images"], normalize=True)
            text = model.encode_text(given["tokens"], normalize=True)
            logits = model.logit_scale.exp() * image @ text.T
        else:
            model = _transformers(activation, state)
            logits = model(input_ids=given["tokens"], pixel_values=given["images"]).logits_per_image
    Path(out).write_text(json.dumps(logits.tolist()))


if __name__ == "__main__":
    main()
