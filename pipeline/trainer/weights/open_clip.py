"""open_clip: its config file, its files of weights, and what they leave unsaid.

Its names are OpenAI's. A file of weights does not say which GELU it was trained with, and with the
other one every result is a little wrong: where neither a config nor the file's name tells, it must
be said.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pipeline.errors import BadInput
from pipeline.trainer.architectures import Architecture
from pipeline.trainer.transformer import Activation
from pipeline.trainer.weights import preprocessing
from pipeline.trainer.weights.archive import Archive
from pipeline.trainer.weights.tensors import Tensors, of_safetensors, read_json, shown

CONFIG = "open_clip_config.json"
FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
)
"""In the order in which open_clip looks for them in a folder."""
WEIGHTS = FILES[0]
_IGNORED = {"attn_mask", "input_resolution", "context_length", "vocab_size"}
_WEIGHTS_NAMES = {"weight", "bias", "gamma", "logit_bias", "proj", "scale"}
_OF_VISION = {"image_size", "layers", "width", "patch_size"}
_OF_TEXT = {"context_length", "vocab_size", "width", "heads", "layers"}
_OF_TOKENIZER = {"hf_tokenizer_name", "tokenizer_kwargs", "tokenizer_mode"}
_PLAIN: dict[str, Any] = {
    **dict.fromkeys(("ls_init_value", "norm_kwargs", "act_kwargs", "block_type"), None),
    **dict.fromkeys(("timm_model_name", "hf_model_name"), None),
    **dict.fromkeys(("attentional_pool", "no_ln_pre", "final_ln_after_pool", "embed_cls"), False),
    **dict.fromkeys(("no_causal_mask", "proj_bias", "output_tokens", "qk_norm"), False),
    "head_width": 64,
    "mlp_ratio": 4.0,
    "proj_type": "linear",
    "pos_embed_type": "learnable",
}
"""What these keys say of a model that is CLIP's; with others it is another function."""
_FREE = {"patch_dropout", "timm_model_pretrained", "hf_model_pretrained", "pad_id", "eos_id"}
_FREE |= {"attn_pooler_queries", "attn_pooler_heads"} | _OF_TOKENIZER
"""Keys without a part in a plain CLIP's function."""


def opened(path: Path, stack: ExitStack) -> tuple[Tensors, bool]:
    """The tensors of a file, and whether it is one of OpenAI's scripts."""
    if path.suffix == ".safetensors":
        return _bare(of_safetensors([path], stack), path, is_script=False), False
    try:
        file = stack.enter_context(path.open("rb"))
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from None
    if not file.read(4).startswith(b"PK"):
        raise BadInput(
            f"{path} is neither safetensors nor a zip of torch's (the format since torch 1.6): "
            "load it where it was made and save it once more"
        )
    file.seek(0)
    archive = Archive(path, file)
    return _bare(archive.tensors(), path, is_script=archive.is_script), archive.is_script


def _bare(tensors: Tensors, path: Path, *, is_script: bool) -> Tensors:
    """The tensors without what a file of weights carries along, and without a wrapper's prefix."""
    names = list(tensors.shapes)
    is_wrapped = bool(names) and all(name.startswith("module.") for name in names)
    kept: dict[str, str] = {}
    for name in names:
        bare = name.removeprefix("module.") if is_wrapped else name
        leaf = bare.rpartition(".")[2]
        # A script's modules also hold tensors that are none of its weights.
        is_weight = not is_script or leaf in _WEIGHTS_NAMES or leaf in _OF_SCRIPTS
        if leaf not in _IGNORED and is_weight:
            kept[bare] = name
    if not kept:
        raise BadInput(f"{path} holds no weights")
    return tensors.renamed(kept)


_OF_SCRIPTS = {
    *("class_embedding", "positional_embedding", "text_projection", "logit_scale"),
    *("in_proj_weight", "in_proj_bias", "running_mean", "running_var", "num_batches_tracked"),
}


def file_in(folder: Path) -> Path:
    """The file with the weights, as open_clip would find it. Raises BadInput."""
    for name in FILES:
        if (folder / name).exists():
            return folder / name
    raise BadInput(f"{folder} holds no weights of open_clip: looked for {', '.join(FILES)}")


def activation_of(path: Path, arch: Architecture, asked: Activation | None) -> Activation:
    """Of the weights at `path`: by the config beside them, by their name, or as asked for.

    Raises BadInput where nothing tells, and where the config is of another function than ours.
    """
    config = path.parent / CONFIG
    if not config.exists():
        if asked is None and "quickgelu" not in path.name.lower():
            raise BadInput(
                f"{path} does not say which GELU it was trained with, and with the other one "
                f"every result is a little wrong: lay a {CONFIG} beside it (of open_clip's model, "
                'or no more than {"model_cfg": {"quick_gelu": true}} for OpenAI\'s and models '
                "called -quickgelu, and false for other ones of open_clip)"
            )
        return asked or "quick_gelu"
    told = read_json(config)
    model = told.get("model_cfg", told)
    if not isinstance(model, dict):
        raise BadInput(f"{config}: model_cfg is no object")
    _check(config, "vision_cfg", model, {"head_width": 64, "pool_type": "tok"}, _OF_VISION)
    due = {"heads": arch.text_width // 64, "pool_type": "argmax"}
    _check(config, "text_cfg", model, due, _OF_TEXT)
    preprocessing.check_open_clip(config, told.get("preprocess_cfg", {}))
    found: Activation = "quick_gelu" if model.get("quick_gelu", False) is True else "gelu"
    if asked not in (None, found):
        raise BadInput(f"{config} says {found}, and {asked} is asked for: leave one of them out")
    return found


def _check(
    config: Path, section: str, model: dict[str, Any], due: dict[str, Any], sizes: set[str]
) -> None:
    found = model.get(section, {})
    if not isinstance(found, dict):
        raise BadInput(f"{config}: {section} is no object")
    known = _PLAIN | due
    for key, value in found.items():
        # What shapes tell is told by the tensors themselves.
        if key in _FREE or (key in sizes and key not in due):
            continue
        if key not in known or value != known[key]:
            raise BadInput(
                f"{config}: {section}.{shown(key)} is {shown(value)}, with which it is no CLIP "
                "as the paper has it"
            )
