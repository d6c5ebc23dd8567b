"""Configs: what open_clip and transformers must know of a model to build it."""

from typing import Any

from pipeline.trainer.architectures import Architecture
from pipeline.trainer.weights.preprocessing import OPEN_CLIP


def open_clip(arch: Architecture, vocabulary: int, activation: str) -> dict[str, Any]:
    """open_clip_config.json."""
    is_resnet = arch.patch is None
    vision = {
        "image_size": arch.resolution,
        "layers": list(arch.layers) if is_resnet else arch.layers[0],
        "width": arch.width,
        "patch_size": arch.patch,
    }
    text = {
        "context_length": arch.context,
        "vocab_size": vocabulary,
        "width": arch.text_width,
        "heads": arch.text_width // 64,
        "layers": arch.text_layers,
        # Of a folder, any name here makes open_clip read the tokenizer that lies beside it;
        # without one it takes OpenAI's merges, whose numbers mean other words.
        "hf_tokenizer_name": ".",
    }
    model = {
        "embed_dim": arch.embed,
        "quick_gelu": activation == "quick_gelu",
        "vision_cfg": vision,
        "text_cfg": text,
    }
    return {"model_cfg": model, "preprocess_cfg": OPEN_CLIP}


def hugging_face(arch: Architecture, vocabulary: int, activation: str) -> dict[str, Any]:
    """config.json of a CLIPModel; of a ViT only."""
    common = {"hidden_act": activation, "layer_norm_eps": 1e-5, "attention_dropout": 0.0}
    text = {
        "model_type": "clip_text_model",
        "vocab_size": vocabulary,
        "max_position_embeddings": arch.context,
        # A text is read off its end; with another number here all texts would be one.
        "eos_token_id": vocabulary - 1,
        "bos_token_id": vocabulary - 2,
        "pad_token_id": vocabulary - 1,
        **_tower(arch.text_width, arch.text_layers, arch.embed),
        **common,
    }
    vision = {
        "model_type": "clip_vision_model",
        "image_size": arch.resolution,
        "patch_size": arch.patch,
        "num_channels": 3,
        **_tower(arch.width, arch.layers[0], arch.embed),
        **common,
    }
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": arch.embed,
        "logit_scale_init_value": 2.6592,
        "torch_dtype": "float32",
        "text_config": text,
        "vision_config": vision,
    }


def _tower(width: int, layers: int, embed: int) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 64,
        "projection_dim": embed,
    }
