"""What test_trainer_bad_input.py has done where memory ends: `out_of_memory.py SHARDS FOLDER`."""

import resource
import sys
from pathlib import Path

import torch
from meters import Meter

from pipeline.errors import WitError
from pipeline.settings import LoaderSettings, TrainSettings
from pipeline.tokenizer import Tokenizer
from pipeline.trainer import architectures, loop
from pipeline.trainer.samples import Samples

LARGE = architectures.Architecture(16, 128, (4,), 128, 4, 64, 1, 32)
ROOM = 400_000_000


def main(shards: Path, folder: Path) -> None:
    architectures.ARCHITECTURES["tiny"] = LARGE
    torch.set_num_threads(1)
    samples = Samples(shards, LoaderSettings(workers=0))
    settings = TrainSettings(
        model="tiny", batch_size=24, epochs=3, save_every_steps=1, device="cpu", micro_batch_size=1
    )
    try:  # a first checkpoint, and a little more
        loop.train(folder, samples, Tokenizer([]), settings, Meter(stop_after=2))
    except KeyboardInterrupt:
        sys.stdout.write("interrupted\n")
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM, taken + ROOM))
    settings = settings.model_copy(update={"micro_batch_size": None})
    try:
        loop.train(folder, samples, Tokenizer([]), settings, Meter())
    except WitError as error:
        sys.stdout.write(f"{type(error).__name__}: {error}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
