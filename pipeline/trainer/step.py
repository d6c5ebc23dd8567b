"""Step: one step of training, and what it came to, seen without waiting for the device.

A step whose loss or gradient is no number changes nothing, nor does any step after it: the flag
that says so stays on the device, where the optimizer reads it. The host reads it later.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from pipeline.settings import TrainSettings
from pipeline.trainer import micro_batches
from pipeline.trainer.feeding import normalised
from pipeline.trainer.model import CLIP, MAX_LOGIT_SCALE
from pipeline.trainer.optimizer import clip_gradients
from pipeline.trainer.order import Indices
from pipeline.trainer.parallel import Ranks
from pipeline.trainer.samples import Batch
from pipeline.trainer.sharding import average_rest, parts, synchronised

_LAG = 2
"""Steps that a GPU may be behind before it is waited for. It is never idle for that: while the
oldest is waited for, the others are in its queue."""


@dataclass(frozen=True)
class Told:
    """What a step came to; the same on every rank, but for the numbers."""

    step: int
    loss: float
    grad_norm: float
    is_finite: bool
    is_asked: bool
    """Whether some rank was asked to stop."""
    numbers: Indices
    """This rank's samples."""


class Learner:
    """A model and its optimizer, and how a batch changes them.

    `model` is `clip` as it is spread over the ranks; `half` is whether it computes in bf16.
    """

    def __init__(
        self,
        model: nn.Module,
        clip: CLIP,
        optimizer: torch.optim.AdamW,
        settings: TrainSettings,
        ranks: Ranks,
        *,
        half: bool,
    ) -> None:
        self.clip, self.optimizer = clip, optimizer
        self._model, self._settings, self._ranks, self._half = model, settings, ranks, half
        self._parameters = list(clip.parameters())
        self._is_broken = torch.zeros((), device=ranks.device)
        # Fused AdamW leaves weights and statistics as they are where this is not 0.
        optimizer.found_inf = self._is_broken  # type: ignore[attr-defined]

    def __call__(self, batch: Batch, lr: float, *, is_asked: bool) -> Tensor:
        """Learn from `batch`: loss, norm of the gradient, whether either is no number, and whether
        a rank was asked to stop; all on the device."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._backward(batch)
        average_rest(self._model, self._ranks)
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        shards, wholes = parts(gradients)

        # One message carries all that the ranks must agree on.
        told = torch.zeros(3, dtype=torch.float64, device=self._ranks.device)
        told[0] = _squares(shards)
        told[1] = ~loss.isfinite()
        told[2].fill_(float(is_asked))
        self._ranks.summed(told)
        norm = (told[0] + _squares(wholes)).sqrt()

        self._is_broken.copy_(self._is_broken.bool() | (told[1] > 0) | ~norm.isfinite())
        if self._settings.max_grad_norm is not None:
            clip_gradients([*shards, *wholes], norm, self._settings.max_grad_norm)
        self.optimizer.step()
        with torch.no_grad():
            self.clip.logit_scale.clamp_(max=MAX_LOGIT_SCALE)
        return torch.stack([loss.double(), norm, self._is_broken.double(), told[2]])

    def _backward(self, batch: Batch) -> Tensor:
        """The gradients of the whole batch; its loss."""
        settings, device = self._settings, self._ranks.device
        return micro_batches.backward(
            self._model,
            batch.image_BHWC,
            batch.tokens_BL,
            batch.lengths_B,
            micro=settings.micro_batch_size,
            tile=settings.loss_tile,
            groups=settings.text_groups,
            ranks=self._ranks,
            prepare=partial(normalised, device=device),
            sync=partial(synchronised, self._model),
            autocast=partial(torch.autocast, device.type, torch.bfloat16, self._half),
        )


def _squares(gradients: list[Tensor]) -> Tensor | float:
    """The sum of all squares, in fp64, where that of a large gradient is a number yet."""
    return nn.utils.get_total_norm(gradients).double().square() if gradients else 0.0


class Watch:
    """Steps that were begun, and what they came to: at once on a CPU, some steps later on a GPU."""

    def __init__(self, device: torch.device) -> None:
        self._is_cuda = device.type == "cuda"
        self._lag = _LAG if self._is_cuda else 0
        self._coming: deque[tuple[int, Indices, Tensor, torch.cuda.Event | None]] = deque()

    def put(self, step: int, numbers: Indices, told: Tensor) -> None:
        """`told` of `step` is on its way from the device."""
        event = None
        if self._is_cuda:
            kept = torch.empty(told.shape, dtype=told.dtype, pin_memory=True)
            told = kept.copy_(told, non_blocking=True)
            event = torch.cuda.current_stream().record_event()
        self._coming.append((step, numbers, told, event))

    def told(self, *, wait: bool) -> Iterator[Told]:
        """What the steps came to that are known by now, the oldest first; with `wait`, of all.

        Which are known is a matter of steps and not of time: ranks must stop at the same one.
        """
        while len(self._coming) > (0 if wait else self._lag):
            step, numbers, told, event = self._coming.popleft()
            if event is not None:
                event.synchronize()
            loss, norm, is_broken, is_asked = told.tolist()
            yield Told(step, loss, norm, not is_broken, is_asked > 0, numbers)
