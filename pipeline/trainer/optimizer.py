"""Optimizer: AdamW, its learning rate, and the length of gradients."""

import math

import torch
from torch import Tensor, nn

from pipeline.trainer.architectures import Architecture


def get_lr(step: int, steps: int, warmup: int, peak: float) -> float:
    """The learning rate of `step`, from 0: a line up to `peak`, then a cosine down to 0."""
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return peak * (1 + math.cos(math.pi * done)) / 2


def optimizer_of(model: nn.Module, arch: Architecture, decay: float) -> torch.optim.AdamW:
    """AdamW; gains, biases and the logit scale are not decayed."""
    # What has fewer than two dimensions is a gain, a bias, the scale or the class embedding.
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": decay},
        {"params": others, "weight_decay": 0.0},
    ]
    # One kernel for many weights; and it alone leaves them as they are where `found_inf` is set.
    return torch.optim.AdamW(groups, betas=arch.betas, eps=arch.eps, fused=True)


def statistics(model: nn.Module, optimizer: torch.optim.AdamW) -> dict[str, Tensor]:
    """The statistics of every weight, by `weight/statistic`; zeros where no step was done."""
    found: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        state = optimizer.state[parameter]
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)
            for statistic in ("exp_avg", "exp_avg_sq"):
                state[statistic] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        found |= {f"{name}/{statistic}": value for statistic, value in state.items()}
    return found


def clip_gradients(gradients: list[Tensor], norm: Tensor, most: float) -> None:
    """Scale `gradients`, which are together `norm` long, down to `most`; never up."""
    torch._foreach_mul_(gradients, (most / (norm + 1e-6)).clamp(max=1.0).float())
