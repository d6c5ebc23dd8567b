"""Tensor files: safetensors, written with their digest in one pass, read without trust.

Written by hand since safetensors' own writer reports no digest: a file of some gigabytes would be
read again for it. Both directions hold no second copy of the tensors.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pipeline.errors import WitError
from pipeline.verify.findings import shown

_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_PIECE_BYTES = 1 << 22
"""Small enough to be digested and written from the processor's cache."""
_MAX_TOLD = 200


class UnreadableTensors(WitError):
    """A file of tensors is damaged, or holds others than it should."""


def write(tensors: Mapping[str, Tensor], file: Path) -> str:
    """Write `tensors` whole and durably; the sha256 of the file."""
    # Larger types first, as safetensors does: then every tensor begins at a multiple of its size.
    ordered = sorted(tensors.items(), key=lambda each: (-each[1].element_size(), each[0]))
    told: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in ordered:
        begin, end = end, end + tensor.numel() * tensor.element_size()
        told[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    header = json.dumps(told, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    head = memoryview(len(header).to_bytes(8, "little") + header)
    digest = hashlib.sha256()
    with file.open("wb", buffering=0) as out:
        for raw in chain([head], map(_bytes, ordered)):
            for begin in range(0, len(raw), _PIECE_BYTES):
                piece = raw[begin : begin + _PIECE_BYTES]
                digest.update(piece)
                while piece:  # of a disk that is full, only some bytes may be taken
                    piece = piece[out.write(piece) :]
        os.fsync(out.fileno())
    return digest.hexdigest()


def _bytes(named: tuple[str, Tensor]) -> memoryview:
    flat = named[1].detach().cpu().contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy().data)


def read(file: Path) -> dict[str, Tensor]:
    """The tensors of `file`, on the CPU. Raises UnreadableTensors."""
    try:
        return load_file(file)
    except (OSError, SafetensorError, ValueError, KeyError, AttributeError) as error:
        raise UnreadableTensors(f"{file.name}: {one_line(str(error))}") from None


def fitting(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors `found`, each of the type that it has in `wanted`.

    Numbers of another precision are converted. Raises UnreadableTensors where names, shapes or
    kinds differ.
    """
    odd = sorted(found.keys() ^ wanted.keys())
    both = sorted(found.keys() & wanted.keys())
    odd += [name for name in both if not _is_like(found[name], wanted[name])]
    if odd:
        what = f"`{one_line(odd[0])}` first"
        raise UnreadableTensors(f"another model's weights: {len(odd):,} differ, {what}")
    return {name: found[name].to(wanted[name].dtype) for name in wanted}


def _is_like(found: Tensor, wanted: Tensor) -> bool:
    is_alike = found.is_floating_point() == wanted.is_floating_point()
    is_same = is_alike if found.is_floating_point() else found.dtype == wanted.dtype
    return found.shape == wanted.shape and is_same


def sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def one_line(text: str) -> str:
    """What a damaged file says of itself, fit to be shown."""
    return shown(" ".join(text.split())[:_MAX_TOLD])
