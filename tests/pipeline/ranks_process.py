"""What test_trainer_ranks.py has done by two processes: `torchrun ranks_process.py SHARDS FOLDER`.

The first process writes what was found into FOLDER/found.json.
"""

import json
import os
import shutil
import signal
import sys
import time
from functools import partial
from pathlib import Path

import torch
from meters import Meter

from pipeline.errors import WitError
from pipeline.settings import LoaderSettings, TrainSettings
from pipeline.tokenizer import Tokenizer
from pipeline.trainer import architectures, loop, parallel, text_groups
from pipeline.trainer.parallel import Ranks
from pipeline.trainer.reading import Reader
from pipeline.trainer.samples import Samples

SMALL = architectures.Architecture(16, 32, (2,), 64, 16, 64, 2, 32, learning_rate=1e-3)
SETTINGS = TrainSettings(
    model="tiny",
    batch_size=8,
    epochs=3.0,
    warmup_steps=2,
    save_every_steps=3,
    keep_checkpoints=9,
    log_every_steps=2,
    device="cpu",
    wait_seconds=60,
)
SAVING = {
    "micro_batch_size": 3,
    "gradient_checkpointing": True,
    "text_groups": 2,
    "loss_tile": 3,
    "max_grad_norm": 1e3,
}


def ended(folder: Path, samples: Samples, ranks: Ranks, meter: Meter, **changes: object) -> str:
    """How a training in `folder` ended."""
    folder.mkdir(exist_ok=True)
    settings = SETTINGS.model_copy(update=changes)
    try:
        loop.train(folder, samples, Tokenizer([]), settings, meter, ranks)
    except WitError as error:
        return f"{type(error).__name__}: {error}"
    return "done"


class Late(Samples):
    """Samples that are long in coming, a batch of them at a time."""

    @property
    def reader(self) -> Reader:
        time.sleep(0.5)
        return super().reader


def gone_on(source: Path, step: int, folder: Path, ranks: Ranks) -> None:
    """A copy of the checkpoint of `step`, to go on from."""
    if ranks.is_first:
        name = f"step_{step:09d}"
        shutil.copytree(source / name, folder / name)
    ranks.all_of(None)


def main(shards: Path, folder: Path) -> None:
    architectures.ARCHITECTURES["tiny"] = SMALL
    torch.set_num_threads(1)
    text_groups.LEAST_ROWS = 1  # groups of few texts, too
    samples = Samples(shards, LoaderSettings(workers=0))
    found: dict[str, object] = {}
    with parallel.joined(SETTINGS) as ranks:
        others = ranks.all_of(os.getpid())
        for kind in ("ddp", "fsdp"):
            whole, broken = folder / f"{kind}-whole", folder / f"{kind}-broken"
            found[whole.name] = ended(whole, samples, ranks, Meter(), parallel=kind)
            stopping = Meter(4, partial(os.kill, others[1], signal.SIGTERM))
            found[broken.name] = ended(broken, samples, ranks, stopping, parallel=kind)
            found[f"{broken.name}-at"] = stopping.count
            found[f"{broken.name}-again"] = ended(broken, samples, ranks, Meter(), parallel=kind)
            sparing = folder / f"{kind}-sparing"
            found[sparing.name] = ended(sparing, samples, ranks, Meter(), parallel=kind, **SAVING)
            other = {"ddp": "fsdp", "fsdp": "ddp"}[kind]
            for source in (whole, folder / "alone"):
                changed = folder / f"{source.name}-then-{other}"
                gone_on(source, 6, changed, ranks)
                found[changed.name] = ended(changed, samples, ranks, Meter(), parallel=other)
            infinite = folder / f"{kind}-infinite"
            gone_on(folder / "infinite", 3, infinite, ranks)
            every = ranks.all_of(ended(infinite, samples, ranks, Meter(), parallel=kind))
            found[infinite.name] = every
        found["odd"] = ended(folder / "odd", samples, ranks, Meter(), batch_size=7)
        late = Late(shards, LoaderSettings(workers=0)) if ranks.rank == 1 else samples
        found["late"] = ended(folder / "late", late, ranks, Meter())
        resnet = {"model": "tiny-RN", "sync_batch_norm": True}
        found["sync"] = ended(folder / "sync", samples, ranks, Meter(), **resnet)
        if ranks.is_first:
            (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
