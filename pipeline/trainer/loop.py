"""Loop: the training of CLIP, from first step to last, on one device or many.

reads   samples, or the newest checkpoint and samples
writes  checkpoints, metrics.jsonl
"""

import json
import math
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch

from pipeline.errors import WitError
from pipeline.settings import TrainSettings
from pipeline.tokenizer import Tokenizer
from pipeline.trainer import checkpoint, rng
from pipeline.trainer.architectures import architecture
from pipeline.trainer.failures import told_plainly
from pipeline.trainer.feeding import fed
from pipeline.trainer.flops import training_flops
from pipeline.trainer.instruments import Instruments, sentence
from pipeline.trainer.optimizer import get_lr, statistics
from pipeline.trainer.parallel import Ranks, alone
from pipeline.trainer.samples import Batches, Samples
from pipeline.trainer.saving import Saver
from pipeline.trainer.sharding import whole
from pipeline.trainer.starting import begun
from pipeline.trainer.step import Learner, Told, Watch
from pipeline.trainer.stopping import Stopping

NOT_FINITE = "not_finite.json"


class NotFinite(WitError):
    """The loss or its gradient is no number any more."""


class Stopped(WitError):
    """Somebody asked the training to stop; a checkpoint is saved."""

    exit_code = 143


class Meter(Protocol):
    """Is told of every step done."""

    def advance(self, count: int = 1) -> None: ...


@dataclass(frozen=True)
class Trained:
    """What a training came to."""

    steps: int
    final_loss: float
    pairs_per_second: float
    """Of all processes, from the first step of these to the last."""
    skipped: dict[str, int]
    """Samples that could not be read, by reason; in each one's place stood another."""


def steps_in(samples: int, settings: TrainSettings) -> int:
    """How many steps the epochs are; what fills no whole batch at the end is left out."""
    return max(1, int(settings.epochs * samples / settings.batch_size))


def train(
    folder: Path,
    samples: Samples,
    tokenizer: Tokenizer,
    settings: TrainSettings,
    meter: Meter,
    ranks: Ranks | None = None,
    *,
    code: str = "unknown",
    tell: Callable[[str], None] = lambda _: None,
) -> Trained:
    """Train to the end, from the newest checkpoint in `folder` if there is one.

    With several `ranks` all call it alike; only the first reads and writes in `folder`, advances
    `meter` and tells. `code` is the version that a checkpoint will name.
    """
    # ---- what is trained, and from what ------------------------------------------------------
    ranks = alone(settings) if ranks is None else ranks
    arch, device = architecture(settings.model), ranks.device
    if settings.cpu_threads:
        torch.set_num_threads(settings.cpu_threads)
    batches = Batches(
        samples,
        tokenizer,
        settings.batch_size,
        arch.resolution,
        arch.context,
        settings.seed,
        ranks.rank,
        ranks.count,
    )
    steps = steps_in(len(samples), settings)
    peak = arch.learning_rate if settings.learning_rate is None else settings.learning_rate
    state = checkpoint.State(
        step=0,
        model=settings.model,
        vocabulary=tokenizer.vocabulary,
        tokenizer=tokenizer.digest,
        samples=len(samples),
        shards=samples.index.digest,
        skipped={},
        loss=math.nan,
        settings=settings.model_dump(mode="json", exclude=set(settings.pace))
        | samples.loader.model_dump(mode="json", exclude=set(samples.loader.pace)),
        code=code,
    )

    with ExitStack() as held:
        held.enter_context(told_plainly(settings, batches.rows, ranks))
        # ---- where an earlier process stopped ------------------------------------------------
        model, clip, optimizer, state, half = begun(
            folder, state, settings, batches.rows, ranks, tell
        )
        learner = Learner(model, clip, optimizer, settings, ranks, half=half)
        watch, stopping = Watch(device), held.enter_context(Stopping())
        saver = held.enter_context(Saver(folder, settings))
        first, loss = state.step, state.loss
        # The first rank counts what was skipped before, and each what it skips itself.
        skipped = Counter(state.skipped if ranks.is_first else {})
        instruments = held.enter_context(
            Instruments(
                folder,
                settings,
                flops_per_pair=training_flops(arch),
                device=device,
                ranks=ranks.count,
                first=first,
                is_writing=ranks.is_first,
            )
        )
        if ranks.is_first:
            meter.advance(first)

        def save(step: int) -> None:
            weights = whole(clip.state_dict(), ranks)
            moments = whole(statistics(clip, optimizer), ranks)
            chance = rng.states(ranks.gather)
            lost = sum(ranks.all_of(skipped), Counter[str]())
            now = replace(state, step=step, loss=loss, skipped=dict(sorted(lost.items())))
            is_copy = device.type == "cuda"
            ranks.first(lambda: saver.save(weights, moments, chance, now, is_copy=is_copy))

        def seen(*, wait: bool) -> list[Told]:
            found = list(watch.told(wait=wait))
            for told in found:
                if not told.is_finite:
                    _stop(folder, told, samples, ranks)
            return found

        # ---- the loop ------------------------------------------------------------------------
        began, done, is_stopped = time.perf_counter(), time.perf_counter(), False
        coming = batches.between(first, steps, pin=device.type == "cuda")
        held.enter_context(closing(coming))
        for batch in fed(coming, device):
            waited = time.perf_counter() - done
            skipped.update(reason for _, reason in batch.skipped)
            lr = get_lr(batch.step, steps, settings.warmup_steps, peak)
            told = learner(batch, lr, is_asked=stopping.asked)
            watch.put(batch.step, batch.numbers, told)

            step = batch.step + 1
            is_last = step == steps
            is_logged = step % settings.log_every_steps == 0 or is_last
            is_saved = step % settings.save_every_steps == 0 or is_last
            known = seen(wait=is_logged or is_saved)
            if any(each.is_asked for each in known) and not is_last:
                known, is_stopped = [*known, *seen(wait=True)], True
            if known:
                loss = known[-1].loss
            if ranks.is_first:
                meter.advance()
            instruments.step(settings.batch_size, waited)
            if is_logged:
                # All ranks wait for the one whose data come last.
                instruments.waited = max(ranks.all_of(instruments.waited))
                scale = clip.logit_scale.exp().item()
                line = instruments.log(step, loss, lr, scale, known[-1].grad_norm)
                if ranks.is_first:
                    tell(sentence(line))
            if is_saved or is_stopped:
                save(step)
            if is_stopped:
                ranks.first(saver.wait)
                raise Stopped(
                    f"stopped after step {step:,} of {steps:,}, as it was asked to; all is saved: "
                    "run the same command again, and it goes on from there"
                )
            done = time.perf_counter()

        ranks.first(saver.wait)
        seconds = time.perf_counter() - began
        lost = sum(ranks.all_of(skipped), Counter[str]())
    return Trained(steps, loss, (steps - first) * settings.batch_size / seconds, dict(lost))


def _stop(folder: Path, told: Told, samples: Samples, ranks: Ranks) -> None:
    """Name the batch that broke the model; the weights are still those before it."""
    path = folder / NOT_FINITE
    own = [samples.key(number) for number in told.numbers.tolist()]
    pair_ids = [pair_id for part in ranks.all_of(own) for pair_id in part]
    if ranks.is_first:
        path.write_text(json.dumps({"step": told.step, "pair_ids": pair_ids}, indent=1))
    shown = ", ".join(pair_ids[:3])
    raise NotFinite(
        f"step {told.step}: the loss is {told.loss} and its gradient's norm {told.grad_norm}, "
        f"with the pairs {shown}, ... (all of them in {path}): lower train.learning_rate or raise "
        "train.warmup_steps, and train from the beginning with `wit train --again`"
    )
