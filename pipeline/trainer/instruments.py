"""Instruments: what a training tells of itself, and how fast it is.

MFU, model FLOP utilisation (PaLM, arXiv 2204.02311, appendix B), divides the arithmetic of the
whole model on whole texts by what the GPUs could do in that time. What we do not compute counts as
done, what is computed twice counts once: so it compares with the figures of others.
"""

import re
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from pipeline.settings import TrainSettings
from pipeline.trainer.sinks import Jsonl, Line, Sink, TensorBoard, Wandb

_PEAK_TFLOPS = (
    (r"\bGB200\b", 2500.0),
    (r"\bB200\b", 2250.0),
    (r"\bH200 NVL\b", 835.5),
    (r"\bH200\b", 989.4),
    (r"\bGH200\b", 989.4),
    (r"\bH100 NVL\b", 835.5),
    (r"\bH100 PCIe\b", 756.0),
    (r"\bH100\b", 989.4),
    (r"\bA[18]00\b", 312.0),
    (r"\bA30\b", 165.0),
    (r"\bA40\b", 149.7),
    (r"\bA10\b", 125.0),
    (r"\bL40S\b", 362.0),
    (r"\bL40\b", 181.0),
    (r"\bL4\b", 121.0),
    (r"\bRTX 6000 Ada\b", 364.2),
    (r"\bRTX A6000\b", 154.8),
    (r"\bRTX 5090$", 209.5),
    (r"\bRTX 4090$", 165.2),
    (r"\bRTX 3090$", 71.0),
)
"""Dense bf16 TFLOP/s with sums in fp32, by what CUDA calls the GPU, the first that fits. From
NVIDIA's data sheets and architecture white papers, whose figures with sparsity are halved."""


def peak_tflops(device_name: str) -> float | None:
    """Dense bf16 TFLOP/s of a GPU; None where it is not known."""
    if re.search(r"\bMIG\b", device_name):
        return None  # a part of a GPU, and the name does not tell which
    return next((peak for fit, peak in _PEAK_TFLOPS if re.search(fit, device_name)), None)


class Instruments:
    """Measures between two lines of the log, and writes them.

    `first` is the step that this process goes on from, and `is_writing` is for one process of
    them. Raises BadInput where a package or an account that is asked for is not there.
    """

    def __init__(
        self,
        folder: Path,
        settings: TrainSettings,
        *,
        flops_per_pair: float,
        device: torch.device,
        ranks: int = 1,
        first: int = 0,
        is_writing: bool = True,
    ) -> None:
        known = peak_tflops(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
        peak = settings.peak_tflops or known
        self._full_speed = None if peak is None else peak * 1e12 * ranks / flops_per_pair
        self._device = device
        self._sinks: Sequence[Sink] = ()
        self._seconds = 0.0
        if is_writing:
            file = Jsonl(folder, first)
            self._sinks = (file, *_asked_for(folder, settings, first))
            earlier = file.kept[-1].get("seconds") if file.kept else 0.0
            self._seconds = earlier if isinstance(earlier, float) else 0.0
        self._began = time.perf_counter()
        self._pairs = 0
        self.waited = 0.0
        """Seconds for data since the line before; of several processes the loop tells the most."""

    def step(self, pairs: int, waited: float) -> None:
        """A step is done, of `pairs` of all processes; `waited` seconds before it for its data."""
        self._pairs += pairs
        self.waited += waited

    def log(self, step: int, loss: float, lr: float, logit_scale: float, grad_norm: float) -> Line:
        """Write the line of `step`, of all steps since the line before."""
        now = time.perf_counter()
        seconds = max(now - self._began, 1e-9)
        self._seconds += seconds
        speed = self._pairs / seconds
        line: Line = {
            "step": step,
            "loss": loss,
            "lr": lr,
            "logit_scale": logit_scale,
            "grad_norm": grad_norm,
            "pairs_per_second": speed,
            "mfu": None if self._full_speed is None else speed / self._full_speed,
            "data_share": min(1.0, self.waited / seconds),
            "peak_memory_bytes": peak_memory(self._device),
            "seconds": self._seconds,
        }
        for sink in self._sinks:
            sink.write(line)
        self._began, self._pairs, self.waited = now, 0, 0.0
        return line

    def close(self) -> None:
        for sink in self._sinks:
            sink.close()

    def __enter__(self) -> "Instruments":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def peak_memory(device: torch.device) -> int:
    """Bytes of a GPU, or of this process, that were in use at a time, since it began."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # macOS counts bytes, others kibibytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def sentence(line: Line) -> str:
    """A line of the log, for a person."""
    parts = [
        f"step {line['step']:,}",
        f"loss {line['loss']:.4f}",
        f"lr {line['lr']:.2e}",
        f"scale {line['logit_scale']:.2f}",
        f"gradient {line['grad_norm']:.3f}",
        f"{line['pairs_per_second']:,.0f} pairs/s",
        f"{line['data_share']:.1%} waiting for data",
        f"{line['peak_memory_bytes'] / 1e9:.1f} GB",
    ]
    if line["mfu"] is not None:
        parts.insert(6, f"MFU {line['mfu']:.1%}")
    return ", ".join(parts)


def _asked_for(folder: Path, settings: TrainSettings, first: int) -> list[Sink]:
    sinks: list[Sink] = []
    if settings.tensorboard:
        sinks.append(TensorBoard(folder, first))
    if settings.wandb_project is not None:
        sinks.append(Wandb(folder, settings.wandb_project, settings.model_dump(mode="json")))
    return sinks
