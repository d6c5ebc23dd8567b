"""Hugging Face: the names and the config of transformers' CLIPModel, both ways.

The fused projection of an attention is three layers there, and the two last projections are
layers, so that their matrices are transposed.
"""

import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import BadInput
from pipeline.trainer.architectures import Architecture
from pipeline.trainer.transformer import Activation
from pipeline.trainer.weights import preprocessing
from pipeline.trainer.weights.archive import Archive
from pipeline.trainer.weights.tensors import Tensors, of_safetensors, read_json, shown

CONFIG, WEIGHTS, PREPROCESSOR = "config.json", "model.safetensors", "preprocessor_config.json"
INDEX, PICKLED = "model.safetensors.index.json", "pytorch_model.bin"
_TOWERS = {"visual.transformer.": "vision_model.encoder.", "transformer.": "text_model.encoder."}
_OF_BLOCK = {
    "attn.out_proj": "self_attn.out_proj",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_WHOLE = {
    "logit_scale": "logit_scale",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "text_projection": "text_projection.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    # The name is spelled so.
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
    "visual.proj": "visual_projection.weight",
}
_TRANSPOSED = ("text_projection", "visual.proj")
_BLOCK = re.compile(r"((?:visual\.)?transformer\.)resblocks\.(\d+)\.(.*)\.(weight|bias)")
_FUSED = re.compile(r"((?:visual\.)?transformer\.)resblocks\.(\d+)\.attn\.in_proj_(weight|bias)")
UNREAD = {f"{tower}_model.embeddings.position_ids" for tower in ("text", "vision")}
"""Counted numbers that older files carry along."""
_DEFAULTS: dict[str, Any] = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
_HEADS = {"text": 8, "vision": 12}
"""What CLIPConfig takes when a file is silent."""


def _their_names(name: str) -> tuple[str, ...]:
    """What a tensor of ours is called there; a fused one has three names."""
    if name in _WHOLE:
        return (_WHOLE[name],)
    if fused := _FUSED.fullmatch(name):
        layer = f"{_TOWERS[fused[1]]}layers.{fused[2]}.self_attn"
        return tuple(f"{layer}.{part}_proj.{fused[3]}" for part in "qkv")
    block = _BLOCK.fullmatch(name)
    if block is None or block[3] not in _OF_BLOCK:
        raise BadInput(f"`{name[:80]}` has no place in a CLIPModel, whose images pass a ViT")
    return (f"{_TOWERS[block[1]]}layers.{block[2]}.{_OF_BLOCK[block[3]]}.{block[4]}",)


def to_theirs(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state in OpenAI's names as CLIPModel's: views of it."""
    out: dict[str, Tensor] = {}
    for name, value in state.items():
        theirs = _their_names(name)
        parts = value.chunk(3) if len(theirs) == 3 else (value,)
        for their, part in zip(theirs, parts, strict=True):
            out[their] = part.T if name in _TRANSPOSED else part
    return out


def to_ours(state: dict[str, Tensor], names: list[str]) -> dict[str, Tensor]:
    """Of a CLIPModel's state the tensors with these names of OpenAI's."""
    out: dict[str, Tensor] = {}
    for name in names:
        parts = [state[their] for their in _their_names(name)]
        value = torch.cat(parts) if len(parts) > 1 else parts[0]
        out[name] = value.T.contiguous() if name in _TRANSPOSED else value
    return out


def shapes(tensors: Tensors, path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of a CLIPModel's tensors, in OpenAI's names as far as there are such."""
    out: dict[str, tuple[int, ...]] = {}
    ours = {their: name for name, their in _WHOLE.items()}
    towers = {theirs: ours for ours, theirs in _TOWERS.items()}
    parts = {their: name for name, their in _OF_BLOCK.items()}
    layer = re.compile(r"(\w+_model\.encoder\.)layers\.(\d+)\.(.*)\.(weight|bias)")
    for their, shape in tensors.shapes.items():
        if their in UNREAD:
            continue
        if their in ours:
            name = ours[their]
            out[name] = shape[::-1] if name in _TRANSPOSED else shape
        elif (found := layer.fullmatch(their)) and found[1] in towers and found[3] in parts:
            begin = f"{towers[found[1]]}resblocks.{found[2]}."
            out[f"{begin}{parts[found[3]]}.{found[4]}"] = shape
        elif not re.fullmatch(r".*\.self_attn\.[qkv]_proj\.(weight|bias)", their):
            raise BadInput(f"{path} holds no CLIPModel: `{shown(their)}` is none of its weights")
    for their, shape in tensors.shapes.items():
        found = re.fullmatch(r"(.*layers\.\d+\.self_attn)\.q_proj\.(weight|bias)", their)
        if not found:
            continue
        same = {tensors.shapes.get(f"{found[1]}.{part}_proj.{found[2]}") for part in "qkv"}
        block = layer.fullmatch(their)
        if len(same) > 1 or not shape or block is None or block[1] not in towers:
            raise BadInput(f"{path} holds no CLIPModel: `{shown(their)}` has no equal neighbours")
        name = f"{towers[block[1]]}resblocks.{block[2]}.attn.in_proj_{found[2]}"
        out[name] = (3 * shape[0], *shape[1:])
    return out


def opened(folder: Path, stack: ExitStack) -> Tensors:
    """The tensors of a folder's weights, whichever of the usual files hold them."""
    if (folder / WEIGHTS).exists():
        return of_safetensors([folder / WEIGHTS], stack)
    if (folder / INDEX).exists():
        listed = read_json(folder / INDEX).get("weight_map")
        names = set(listed.values()) if isinstance(listed, dict) else set()
        if not names or any(not isinstance(n, str) or Path(n).name != n for n in names):
            raise BadInput(f"{folder / INDEX} names no files of its folder")
        return of_safetensors([folder / name for name in sorted(names)], stack)
    if (folder / PICKLED).exists():
        file = stack.enter_context((folder / PICKLED).open("rb"))
        return Archive(folder / PICKLED, file).tensors()
    raise BadInput(f"{folder} holds neither {WEIGHTS} nor {INDEX} nor {PICKLED}")


def activation_of(folder: Path, arch: Architecture, vocabulary: int) -> Activation:
    """The activation that the config names. Raises BadInput where it names another function than
    ours in what no shape tells."""
    path = folder / CONFIG
    told = read_json(path)
    if told.get("model_type") != "clip":
        raise BadInput(f"{path} is of a model of type {shown(told.get('model_type'))}, not clip")
    text, vision = (_section(told, tower, path) for tower in ("text", "vision"))
    due = {"num_attention_heads": arch.text_width // 64, "layer_norm_eps": 1e-5}
    _check(path, "text", text, due)
    _check(path, "vision", vision, due | {"num_attention_heads": arch.width // 64})
    end = text.get("eos_token_id", vocabulary - 1)
    # 2 stands for the highest token, by an early mistake that transformers keeps to.
    if end not in (2, vocabulary - 1):
        raise BadInput(
            f"{path} reads a text off token {shown(end)}: in CLIP's vocabularies it is the "
            f"last, {vocabulary - 1}"
        )
    acts = {text["hidden_act"], vision["hidden_act"]}
    if len(acts) > 1 or not acts <= {"quick_gelu", "gelu"}:
        raise BadInput(f"{path} names the activations {shown(', '.join(sorted(acts))[:80])}")
    preprocessing.check_theirs(folder / PREPROCESSOR)
    return "quick_gelu" if acts == {"quick_gelu"} else "gelu"


def _section(told: dict[str, Any], tower: str, path: Path) -> dict[str, Any]:
    defaults = _DEFAULTS | {"num_attention_heads": _HEADS[tower]}
    # The older spelling, where both stand, is the one that transformers goes by.
    section = told.get(f"{tower}_config_dict") or told.get(f"{tower}_config") or {}
    if not isinstance(section, dict):
        raise BadInput(f"{path}: {tower}_config is no object")
    found = defaults | section
    if not isinstance(found["hidden_act"], str):
        raise BadInput(f"{path}: {tower}_config.hidden_act is no name")
    return found


def _check(path: Path, tower: str, found: dict[str, Any], due: dict[str, Any]) -> None:
    for key, value in due.items():
        if found[key] != value:
            raise BadInput(
                f"{path}: {tower}_config.{key} is {shown(found[key])} where our model has {value}"
            )
