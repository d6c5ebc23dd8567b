"""Loop: the training of CLIP, from first step to last.

reads   samples, or the newest checkpoint and samples
writes  checkpoints, metrics.jsonl
"""

import json
import math
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from pipeline.errors import BadInput, WitError
from pipeline.settings import TrainSettings
from pipeline.tokenizer import Tokenizer
from pipeline.trainer import checkpoint, rng
from pipeline.trainer.architectures import Architecture, architecture
from pipeline.trainer.feeding import fed, normalised
from pipeline.trainer.loss import contrastive
from pipeline.trainer.model import MAX_LOGIT_SCALE, build
from pipeline.trainer.samples import Batch, Batches, Samples

METRICS = "metrics.jsonl"


class NotFinite(WitError):
    """The loss or its gradient is no number any more."""


class Meter(Protocol):
    """Is told of every step done."""

    def advance(self, count: int = 1) -> None: ...


@dataclass(frozen=True)
class Trained:
    """What a training came to."""

    steps: int
    final_loss: float
    pairs_per_second: float
    """Of this process, from its first step to its last."""
    skipped: dict[str, int]
    """Samples that could not be read, by reason; in each one's place stood another."""


def steps_in(samples: int, settings: TrainSettings) -> int:
    """How many steps the epochs are; what fills no whole batch at the end is left out."""
    return max(1, int(settings.epochs * samples / settings.batch_size))


def get_lr(step: int, steps: int, warmup: int, peak: float) -> float:
    """The learning rate of `step`, from 0: a line up to `peak`, then a cosine down to 0."""
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return peak * (1 + math.cos(math.pi * done)) / 2


def device_of(wanted: str) -> torch.device:
    """`auto`, `cpu` or `cuda` as a device. Raises BadInput where there is no such device."""
    has_cuda = torch.cuda.is_available()
    if wanted == "cuda" and not has_cuda:
        raise BadInput("device: `cuda` was asked for, but none is found: set it to `auto` or `cpu`")
    return torch.device("cuda" if has_cuda and wanted != "cpu" else "cpu")


def optimizer_of(model: nn.Module, arch: Architecture, decay: float) -> torch.optim.AdamW:
    """AdamW; gains, biases and the logit scale are not decayed."""
    # What has fewer than two dimensions is a gain, a bias, the scale or the class embedding.
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=arch.betas, eps=arch.eps)


def train(
    folder: Path, samples: Samples, tokenizer: Tokenizer, settings: TrainSettings, meter: Meter
) -> Trained:
    """Train to the end, from the newest checkpoint in `folder` if there is one."""
    # ---- what is trained, and from what ------------------------------------------------------
    arch, device = architecture(settings.model), device_of(settings.device)
    if settings.cpu_threads:
        torch.set_num_threads(settings.cpu_threads)
    batches = Batches(
        samples, tokenizer, settings.batch_size, arch.resolution, arch.context, settings.seed
    )
    loader = samples.loader
    steps = steps_in(len(samples), settings)
    peak = arch.learning_rate if settings.learning_rate is None else settings.learning_rate
    model = build(settings.model, tokenizer.vocabulary, settings.seed).to(device).train()
    optimizer = optimizer_of(model, arch, settings.weight_decay)

    def state(step: int) -> checkpoint.State:
        return checkpoint.State(
            step=step,
            model=settings.model,
            vocabulary=tokenizer.vocabulary,
            tokenizer=tokenizer.digest,
            samples=len(samples),
            shards=samples.index.digest,
            skipped=dict(sorted(skipped.items())),
            loss=loss,
            settings=settings.model_dump(mode="json", exclude=set(settings.pace))
            | loader.model_dump(mode="json", exclude=set(loader.pace)),
        )

    rng.begin(settings.seed)

    # ---- where an earlier process stopped ----------------------------------------------------
    first, skipped, loss = 0, Counter[str](), math.nan
    found = checkpoint.latest(folder)
    if found is not None:
        told = checkpoint.read_state(found)
        checkpoint.check_same(found, told, state(0))
        checkpoint.restore_model(found, model)
        checkpoint.restore_optimizer(found, model, optimizer)
        rng.restore(checkpoint.rng_tensors(found))
        first, skipped, loss = told.step, Counter(told.skipped), told.loss
        meter.advance(first)
    _cut_metrics(folder / METRICS, first)

    # ---- the loop ----------------------------------------------------------------------------
    began = logged = time.perf_counter()
    waited, logged_step, done = 0.0, first, time.perf_counter()
    coming = batches.between(first, steps, pin=device.type == "cuda")
    with (folder / METRICS).open("a", encoding="utf-8") as metrics, closing(coming):
        for batch in fed(coming, device):
            waited += time.perf_counter() - done
            skipped.update(reason for _, reason in batch.skipped)
            lr = get_lr(batch.step, steps, settings.warmup_steps, peak)
            for group in optimizer.param_groups:
                group["lr"] = lr

            image_BCHW = normalised(batch.image_BHWC, device)
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                image_BE = model.encode_image(image_BCHW)
                text_BE = model.encode_text(batch.tokens_BL)
            loss_now = contrastive(image_BE, text_BE, model.logit_scale)

            optimizer.zero_grad(set_to_none=True)
            loss_now.backward()  # type: ignore[no-untyped-call]
            grad_norm = nn.utils.get_total_norm(
                [p.grad for p in model.parameters() if p.grad is not None]
            )
            loss = loss_now.item()
            if not (math.isfinite(loss) and torch.isfinite(grad_norm)):
                _stop(folder, batch, loss, grad_norm.item())
            optimizer.step()
            with torch.no_grad():
                model.logit_scale.clamp_(max=MAX_LOGIT_SCALE)

            step = batch.step + 1
            meter.advance()
            if step % settings.log_every_steps == 0 or step == steps:
                now = time.perf_counter()
                seconds = now - logged
                line = {
                    "step": step,
                    "loss": loss,
                    "lr": lr,
                    "logit_scale": model.logit_scale.exp().item(),
                    "grad_norm": grad_norm.item(),
                    "pairs_per_second": (step - logged_step) * settings.batch_size / seconds,
                    "data_share": waited / seconds,
                }
                metrics.write(json.dumps(line) + "\n")
                metrics.flush()
                logged, logged_step, waited = now, step, 0.0
            if step % settings.save_every_steps == 0 or step == steps:
                checkpoint.save(
                    folder,
                    model.state_dict(),
                    checkpoint.flat_optimizer(model, optimizer),
                    rng.states(),
                    state(step),
                    settings.keep_checkpoints,
                    settings.keep_every_steps,
                )
            done = time.perf_counter()

    seconds = time.perf_counter() - began
    return Trained(steps, loss, (steps - first) * settings.batch_size / seconds, dict(skipped))


def _stop(folder: Path, batch: Batch, loss: float, grad_norm: float) -> None:
    """Name the batch that broke the model; the weights are still those before it."""
    path = folder / "not_finite.json"
    path.write_text(json.dumps({"step": batch.step, "pair_ids": batch.pair_ids}, indent=1))
    shown = ", ".join(batch.pair_ids[:3])
    raise NotFinite(
        f"step {batch.step}: the loss is {loss} and its gradient's norm {grad_norm}, with the "
        f"pairs {shown}, ... (all of them in {path}): lower train.learning_rate or raise "
        "train.warmup_steps, and run `wit train` again"
    )


def _cut_metrics(path: Path, step: int) -> None:
    """Forget the lines after `step`, which will be written again."""
    kept: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            is_past = int(json.loads(line)["step"]) <= step
        except (ValueError, KeyError, TypeError):
            # The last line of a process that was killed while it wrote.
            continue
        if is_past:
            kept.append(f"{line}\n")
    path.write_text("".join(kept), encoding="utf-8")
