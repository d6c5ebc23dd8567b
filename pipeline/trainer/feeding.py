"""Feeding: batches from shared memory to the device that learns from them.

In names of tensors: B batch, H height, W width, C channels, L tokens.
"""

import mmap
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipeline.trainer.samples import Batch

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""CLIP's, over its corpus; the released weights expect them."""


def normalised(
    image_BHWC: Tensor, device: torch.device, dtype: torch.dtype = torch.float32
) -> Tensor:
    """BCHW: bytes as the numbers that a model expects; computed where the model is.

    Channels stay innermost in memory, as convolutions and patches are read fastest.
    """
    scale_C, shift_C = _line(device)
    image_BHWC = image_BHWC.to(device, non_blocking=True)
    return torch.addcmul(shift_C, image_BHWC, scale_C).to(dtype).permute(0, 3, 1, 2)


@cache
def _line(device: torch.device) -> tuple[Tensor, Tensor]:
    """(byte / 255 - mean) / std, as byte * scale + shift; copied to a device once."""
    mean, std = (torch.tensor(told, dtype=torch.float64) for told in (MEAN, STD))
    return (1 / (255 * std)).float().to(device), (-mean / std).float().to(device)


def fed(batches: "Iterable[Batch]", device: torch.device) -> Iterator["Batch"]:
    """Each batch with its tensors on `device`; on a GPU the next one is copied meanwhile.

    The memory that a copy reads from goes back to the ring when the copy has ended.
    """
    if device.type != "cuda":
        yield from batches
        return
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    copying: deque[tuple[torch.cuda.Event, Tensor]] = deque()

    def copied(batch: "Batch") -> tuple["Batch", torch.cuda.Event]:
        with torch.cuda.stream(stream):
            # Tokens are in no pinned memory: behind the images their copy would wait for theirs.
            tokens = batch.tokens_BL.to(device, non_blocking=True)
            image = batch.image_BHWC.to(device, non_blocking=True)
        event = stream.record_event()
        copying.append((event, batch.image_BHWC))
        return replace(batch, image_BHWC=image, tokens_BL=tokens), event

    coming: tuple[Batch, torch.cuda.Event] | None = None
    for batch in batches:
        now, coming = coming, copied(batch)
        del batch
        if now is not None:
            yield _arrived(*now, device)
        while copying and copying[0][0].query():  # type: ignore[no-untyped-call]
            copying.popleft()
    if coming is not None:
        yield _arrived(*coming, device)


def _arrived(batch: "Batch", event: torch.cuda.Event, device: torch.device) -> "Batch":
    """`batch`, once its copy has ended, in the order of the device's own work."""
    current = torch.cuda.current_stream(device)
    current.wait_event(event)
    for tensor in (batch.image_BHWC, batch.tokens_BL):
        tensor.record_stream(current)
    return batch


@contextmanager
def pinned(memory: mmap.mmap) -> Iterator[None]:
    """CUDA reads `memory` without a copy of its own while this lasts."""
    runtime = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    whole = np.frombuffer(memory, np.uint8)
    code = int(runtime.cudaHostRegister(whole.ctypes.data, whole.nbytes, 0))
    if code:
        # Copies then go through a buffer of CUDA's own: slower, and as right. CUDA hands its last
        # error to whoever asks next, who would take it for his own: that is to be nobody's step.
        with suppress(RuntimeError):
            torch.zeros(1, device="cuda")
        yield
        return
    try:
        yield
    finally:
        torch.cuda.synchronize()
        runtime.cudaHostUnregister(whole.ctypes.data)
