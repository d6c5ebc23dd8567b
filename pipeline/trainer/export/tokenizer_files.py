"""Tokenizer files: our merges as transformers' CLIPTokenizer reads them.

Literal special tokens in a text stay text there too: `split_special_tokens` says so.
"""

import json
from pathlib import Path
from typing import Any

from pipeline.tokenizer import VOCABULARY, Tokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
_WORD = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)
"""CLIPTokenizer's own pattern."""
FILES = (
    *("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json"),
    *("special_tokens_map.json", VOCABULARY),
)


def write(folder: Path, tokenizer: Tokenizer, context: int) -> None:
    """Write all FILES into `folder`."""
    numbers = {token: number for number, token in enumerate(tokenizer.tokens)}
    numbers |= {START: tokenizer.start, END: tokenizer.end}
    merges = [f"{left} {right}" for left, right in tokenizer.merges]
    named = {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}
    write_json(folder / "vocab.json", numbers)
    lines = "".join(f"{merge}\n" for merge in ("#version: 0.2", *merges))
    (folder / "merges.txt").write_text(lines, encoding="utf-8")
    write_json(folder / "tokenizer.json", _fast(numbers, merges, tokenizer))
    write_json(folder / "special_tokens_map.json", named)
    added = {str(token["id"]): _without_id(token) for token in _added(tokenizer)}
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": context,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "do_lower_case": True,
        "errors": "replace",
        "split_special_tokens": True,
        "added_tokens_decoder": added,
    }
    write_json(folder / "tokenizer_config.json", config | named)
    tokenizer.save(folder / VOCABULARY)


def write_json(path: Path, told: Any) -> None:
    """Write JSON as others' files have it: letters as they are, one key a line."""
    path.write_text(json.dumps(told, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _added(tokenizer: Tokenizer) -> list[dict[str, Any]]:
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "special": True}
    return [
        {"id": tokenizer.start, "content": START, "normalized": True, **plain},
        {"id": tokenizer.end, "content": END, "normalized": False, **plain},
    ]


def _without_id(token: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in token.items() if name != "id"}


def _fast(numbers: dict[str, int], merges: list[str], tokenizer: Tokenizer) -> dict[str, Any]:
    """tokenizer.json, as the tokenizers package writes CLIP's."""
    cleaned = [
        {"type": "NFC"},
        {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
        {"type": "Lowercase"},
    ]
    split = {"type": "Split", "pattern": {"Regex": _WORD}, "behavior": "Removed", "invert": True}
    as_bytes = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added(tokenizer),
        "normalizer": {"type": "Sequence", "normalizers": cleaned},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, as_bytes]},
        "post_processor": {
            "type": "RobertaProcessing",
            "sep": [END, tokenizer.end],
            "cls": [START, tokenizer.start],
            "trim_offsets": False,
            "add_prefix_space": False,
        },
        "decoder": {**as_bytes, "add_prefix_space": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": END,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "</w>",
            "fuse_unk": False,
            "vocab": numbers,
            "merges": merges,
        },
    }
