"""Files of weights as their makers write them: OpenAI's scripts, torch.save, and damaged ones."""

import copy
import io
import pickle
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.trainer.model import CLIP, build

VOCABULARY = 600
CONTEXT, SIDE = 32, 64


def model(name: str = "tiny", seed: int = 0, vocabulary: int = VOCABULARY) -> CLIP:
    """A small model whose statistics of BatchNorm are not what they begin with."""
    made = build(name, vocabulary, seed).train()
    with torch.no_grad():
        made.encode_image(torch.randn(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)))
    return made.eval()


def write_script(path: Path, made: CLIP) -> None:
    """As OpenAI's released files: a traced model in half precision, with its three notes."""
    vocabulary = made.token_embedding.num_embeddings
    notes = {"input_resolution": SIDE, "context_length": CONTEXT, "vocab_size": vocabulary}
    tokens = torch.ones(2, CONTEXT, dtype=torch.int64)
    tokens[:, 5] = vocabulary - 1
    made = copy.deepcopy(made)
    for name, value in notes.items():
        made.register_buffer(name, torch.tensor(value))
    given = {"encode_image": torch.zeros(2, 3, SIDE, SIDE), "encode_text": tokens}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.trace_module(made, given, check_trace=False)
        torch.jit.save(script.half(), str(path))


class Storage:
    """Pickled as torch pickles a storage: by name, its bytes elsewhere."""

    def __init__(self, key: str, length: int, kind: str = "FloatStorage") -> None:
        self.told = ("storage", getattr(torch, kind), key, "cpu", length)


class Lying:
    """Pickled as torch pickles a tensor."""

    def __init__(self, storage: Storage, offset: Any, shape: Any, strides: Any) -> None:
        self._args = (storage, offset, shape, strides, False, {})

    def __reduce__(self) -> Any:
        return torch._utils._rebuild_tensor_v2, self._args


class _Pickler(pickle.Pickler):
    def persistent_id(self, value: Any) -> Any:
        return value.told if isinstance(value, Storage) else None


def pickled(value: Any) -> bytes:
    out = io.BytesIO()
    _Pickler(out, protocol=2).dump(value)
    return out.getvalue()


def write_archive(path: Path, program: bytes, members: dict[str, bytes], **how: Any) -> None:
    """A zip as torch.save lays it out, of any pickle and any bytes."""
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", **how) as out:
        warnings.simplefilter("ignore")
        out.writestr("archive/data.pkl", program)
        for name, data in members.items():
            out.writestr(f"archive/{name}", data)


def numbers(count: int) -> bytes:
    return struct.pack(f"<{count}f", *range(count))


def same(found: dict[str, Tensor], due: dict[str, Tensor]) -> bool:
    """Whether all tensors are equal, in their names, their kinds and every number."""
    return found.keys() == due.keys() and all(
        found[name].dtype == due[name].dtype and torch.equal(found[name], due[name]) for name in due
    )
