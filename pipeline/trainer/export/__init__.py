"""Export: a model as a folder that open_clip or transformers loads.

reads   weights, a tokenizer
writes  weights in safetensors, configs, the tokenizer's files, README.md
"""

from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from pipeline import staged
from pipeline.errors import BadInput
from pipeline.tokenizer import Tokenizer
from pipeline.trainer.architectures import architecture
from pipeline.trainer.export import configs, tokenizer_files
from pipeline.trainer.export.readme import card
from pipeline.trainer.weights import Weights, hugging_face, open_clip, preprocessing

KINDS = ("open_clip", "hf")
_README = "README.md"
_FILES = {
    *tokenizer_files.FILES,
    *(_README, open_clip.WEIGHTS, open_clip.CONFIG),
    *(hugging_face.WEIGHTS, hugging_face.CONFIG, hugging_face.PREPROCESSOR),
}
"""All that an export writes; a folder with anything else is never replaced."""


def export(
    weights: Weights,
    tokenizer: Tokenizer,
    kind: str,
    out: Path,
    notes: dict[str, str] | None = None,
    *,
    again: bool = False,
) -> None:
    """Write the folder `out`, whole or not at all. Raises BadInput.

    `notes` go into its README; with `again` an earlier export is replaced.
    """
    check(weights, tokenizer, kind, out, again=again)
    arch = architecture(weights.model)
    with staged.room_in(out.parent, "export again"), staged.folder(out) as folder:
        if kind == "open_clip":
            state, config = weights.state, configs.open_clip
            save_file(_own(state), folder / open_clip.WEIGHTS, {"format": "pt"})
            config_name = open_clip.CONFIG
        else:
            state, config = hugging_face.to_theirs(weights.state), configs.hugging_face
            save_file(_own(state), folder / hugging_face.WEIGHTS, {"format": "pt"})
            config_name = hugging_face.CONFIG
            tokenizer_files.write_json(
                folder / hugging_face.PREPROCESSOR, preprocessing.theirs(arch.resolution)
            )
        told = config(arch, weights.vocabulary, weights.activation)
        tokenizer_files.write_json(folder / config_name, told)
        tokenizer_files.write(folder, tokenizer, weights.context)
        readme = card(weights, notes or {}, is_open_clip=kind == "open_clip")
        (folder / _README).write_text(readme, encoding="utf-8")


def check(weights: Weights, tokenizer: Tokenizer, kind: str, out: Path, *, again: bool) -> None:
    """Raise BadInput for what cannot be exported, before anything is written."""
    if kind not in KINDS:
        raise BadInput(f"--to {kind}: choose one of {', '.join(KINDS)}")
    if kind == "hf" and architecture(weights.model).patch is None:
        raise BadInput(
            f"transformers' CLIPModel has no ResNets, and this is {weights.model}: export it with "
            "--to open_clip"
        )
    if tokenizer.vocabulary != weights.vocabulary:
        raise BadInput(
            f"the vocabulary has {tokenizer.vocabulary:,} tokens and the weights have "
            f"{weights.vocabulary:,}: give the merges file that they were trained with"
        )
    if weights.tokenizer not in (None, tokenizer.digest):
        raise BadInput("the vocabulary is not the one that the weights were trained with")
    if not out.exists():
        return
    if not out.is_dir():
        raise BadInput(f"{out} is a file: name a folder")
    others = sorted(path.name for path in out.iterdir() if path.name not in _FILES)
    if others:
        raise BadInput(f"{out} holds what no export wrote (`{others[0]}`): name another folder")
    if any(out.iterdir()) and not again:
        raise BadInput(f"{out} is there already: --again replaces it")


def _own(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, none of them sharing its memory with another, as safetensors asks."""
    return {name: value.contiguous().clone() for name, value in state.items()}
