"""Loaders: one after the other a process of its own, over the same shards; each tells its cost.

python -m benchmarks.loaders cost NAME SHARDS, where SHARDS is a folder with shards and MERGES. It
counts from the first batch on, and stops amid an epoch: each loader then has as many batches ahead
as when it began, and for each sample that comes out of a shuffle another is read into it.
"""

import json
import os
import random
import sys
import tarfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import psutil

from benchmarks.form import high_water
from pipeline.settings import LoaderSettings

MERGES = "merges.txt.gz"
BEGAN = "BENCH_LOADER_BEGAN"
"""The moment at which a process was started, of a clock that does not jump."""
BATCH, SIDE, CONTEXT, WORKERS, SEED = 256, 224, 77, 2, 0
EPOCHS = 2
"""That each can go on for; one is counted."""
POINTS, SETTLED = 10, 6
"""Of an epoch, at which memory is looked at, once every slot of the ring has been written to."""
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)
_SHARDS_SHUFFLED, _SHARDS_FIRST = 2000, 500
_SHUFFLED = 5000
"""Samples that open_clip shuffles in each worker. It begins with 1,000 and reads two for one until
it has them all; here it has them at once, as it has for all but the beginning of a training."""
_SCALE, _RATIO, _TRIES = (0.9, 1.0), (3 / 4, 4 / 3), 10
"""open_clip's random crop: of the area, of width over height."""


def tokenizer(folder: Path) -> Any:
    from pipeline import tokenizer

    return tokenizer.load(folder / MERGES)


def tree() -> list[psutil.Process]:
    """This process and all that it started, and that run."""
    own = psutil.Process()
    return [own, *own.children(recursive=True)]


def cpu_of(processes: list[psutil.Process]) -> float:
    """CPU seconds, and those of their children that have ended."""
    return sum(sum(process.cpu_times()[:4]) for process in processes)


def pages_of_tree() -> int:
    """Bytes of memory; a page that several share counts once in all."""
    told = [Path(f"/proc/{p.pid}/smaps_rollup").read_text() for p in tree()]
    lines = [line.split() for text in told for line in text.splitlines()]
    return sum(int(words[1]) * 1024 for words in lines if words[0] == "Pss:")


def samples_in(folder: Path) -> int:
    return int(json.loads((folder / "index.json").read_text())["samples"])


def tars(folder: Path) -> list[str]:
    return [str(path) for path in sorted(folder.glob("*.tar"))]


def jpegs(folder: Path) -> Iterator[bytes]:
    for path in tars(folder):
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member)
                if member.name.endswith(".jpg") and file is not None:
                    yield file.read()


def decode_alone(folder: Path) -> Generator[int]:
    """One thread, from memory."""
    import simplejpeg

    files = list(jpegs(folder))
    for first in range(0, len(files) - BATCH + 1, BATCH):
        for file in files[first : first + BATCH]:
            simplejpeg.decode_jpeg(file, "RGB")
        yield BATCH


def crop_and_decode(folder: Path) -> Generator[int]:
    """One thread, from memory, with the very function that makes our batches."""
    from pipeline.trainer.pixels import random_square

    files = list(jpegs(folder))
    for first in range(0, len(files) - BATCH + 1, BATCH):
        for place, file in enumerate(files[first : first + BATCH]):
            random_square(file, SIDE, place / BATCH)
        yield BATCH


def ours(folder: Path) -> Generator[int]:
    from pipeline.trainer.samples import Batches, Samples

    samples = Samples(folder, LoaderSettings(workers=WORKERS))
    batches = Batches(samples, tokenizer(folder), BATCH, SIDE, CONTEXT, SEED)
    with closing(batches.between(0, EPOCHS * (len(samples) // BATCH))) as stream:
        for batch in stream:
            yield len(batch.image_BHWC)


def _repeats(folder: Path) -> int:
    """Of the shards, so that no shuffle runs dry."""
    return EPOCHS + WORKERS * _SHUFFLED // samples_in(folder) + 1


def _piped(folder: Path, decoded: list[Any]) -> Generator[int]:
    """open_clip's pipeline, with the stages that decode."""
    import webdataset as wds

    def has_both(sample: dict[str, object]) -> bool:
        return "txt" in sample and any(kind in sample for kind in ("jpg", "png", "jpeg", "webp"))

    pipeline = wds.DataPipeline(
        wds.SimpleShardList(tars(folder) * _repeats(folder)),
        wds.detshuffle(bufsize=_SHARDS_SHUFFLED, initial=_SHARDS_FIRST, seed=SEED),
        wds.split_by_node,
        wds.split_by_worker,
        wds.tarfile_to_samples(handler=wds.warn_and_continue),
        wds.shuffle(bufsize=_SHUFFLED, initial=_SHUFFLED, rng=random.Random(SEED)),
        wds.select(has_both),
        *decoded,
        wds.to_tuple("image", "text"),
        wds.batched(BATCH, partial=False),
    )
    loader = wds.WebLoader(
        pipeline, batch_size=None, shuffle=False, num_workers=WORKERS, persistent_workers=True
    )
    for images, _ in loader:
        yield len(images)


def open_clip_like(folder: Path) -> Generator[int]:
    """As open_clip_train.data.get_wds_dataset has it, with torchvision's transforms rewritten."""
    import torch
    import webdataset as wds

    cut = tokenizer(folder)
    decoded = [
        wds.decode("pilrgb", handler=wds.warn_and_continue),
        wds.rename(image="jpg;png;jpeg;webp", text="txt"),
        wds.map_dict(
            image=_transformed,
            text=lambda text: torch.from_numpy(cut.encode_batch([text], CONTEXT)[0]),
        ),
    ]
    yield from _piped(folder, decoded)


def _transformed(image: Any) -> Any:
    """RandomResizedCrop, conversion to RGB, ToTensor and Normalize, with the same calls."""
    import numpy as np
    import torch
    from PIL import Image

    left, top, across, down = _random_box(*image.size)
    image = image.crop((left, top, left + across, top + down))
    image = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC).convert("RGB")
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
    tensor = tensor.to(torch.float32).div(255).clone()
    mean, std = (torch.as_tensor(three).view(-1, 1, 1) for three in (_MEAN, _STD))
    return tensor.sub_(mean).div_(std)


def _random_box(width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, width and height, drawn as torchvision draws them: by torch, one by one."""
    import torch

    low, high = torch.log(torch.tensor(_RATIO))
    for _ in range(_TRIES):
        area = width * height * torch.empty(1).uniform_(*_SCALE).item()
        ratio = torch.exp(torch.empty(1).uniform_(low.item(), high.item())).item()
        across, down = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        if 0 < across <= width and 0 < down <= height:
            top = int(torch.randint(0, height - down + 1, (1,)).item())
            left = int(torch.randint(0, width - across + 1, (1,)).item())
            return left, top, across, down
    across, down = min(width, round(height * _RATIO[1])), min(height, round(width / _RATIO[0]))
    return (width - across) // 2, (height - down) // 2, across, down


def webdataset_fast(folder: Path) -> Generator[int]:
    """The same package and stages, with our decoder, as bytes."""
    import torch
    import webdataset as wds

    from pipeline.trainer.pixels import random_square

    cut = tokenizer(folder)
    decoded = [
        wds.rename(image="jpg;png;jpeg;webp", text="txt"),
        wds.map_dict(
            image=lambda data: torch.from_numpy(random_square(data, SIDE, random.random())),
            text=lambda data: torch.from_numpy(cut.encode_batch([data.decode()], CONTEXT)[0]),
        ),
    ]
    yield from _piped(folder, decoded)


CONTENDERS: dict[str, Callable[[Path], Generator[int]]] = {
    "decode_alone": decode_alone,
    "crop_and_decode": crop_and_decode,
    "ours": ours,
    "webdataset_fast": webdataset_fast,
    "open_clip_like": open_clip_like,
}


def cost(name: str, folder: Path) -> dict[str, Any]:
    """Samples, CPU seconds and seconds from the first batch on, and the peak of each process."""
    import torch

    torch.set_num_threads(1)
    samples = 0
    stream = CONTENDERS[name](folder)
    next(stream)
    # Once: to look for them among all processes takes longer than to decode an image.
    processes = tree()
    cpu, clock = cpu_of(processes), time.perf_counter()
    for count in islice(stream, samples_in(folder) // BATCH - 1):
        samples += count
    spent, passed = cpu_of(processes) - cpu, time.perf_counter() - clock
    stream.close()
    return {"samples": samples, "cpu": spent, "wall": passed, "peak": high_water(os.getpid())}


def memory(name: str, folder: Path) -> dict[str, Any]:
    """Bytes of the whole tree at POINTS points of an epoch."""
    total = samples_in(folder) // BATCH
    looked = {SETTLED + (total - 1 - SETTLED) * point // (POINTS - 1) for point in range(POINTS)}
    found = []
    for step, _ in enumerate(islice(CONTENDERS[name](folder), total)):
        if step in looked:
            found.append(pages_of_tree())
    return {"bytes": found}


def start(name: str, folder: Path) -> dict[str, Any]:
    """Seconds from the start of this process, of the interpreter too, to the first sample."""
    if name == "with_torch":
        from pipeline.trainer.samples import Samples

        first = Samples(folder)[0]
    else:
        from pipeline.trainer.index import open_index
        from pipeline.trainer.reading import Reader
        from pipeline.trainer.stores import open_store

        store = open_store(folder, LoaderSettings())
        first = Reader(store, open_index(store, LoaderSettings())).read(0)
        assert "torch" not in sys.modules
    assert first.image
    # One clock for all processes; that of the process table is a second wrong, or less.
    seconds = time.monotonic() - float(os.environ[BEGAN])
    return {"seconds": seconds, "cpu": cpu_of(tree())}


if __name__ == "__main__":
    told = {"cost": cost, "memory": memory, "start": start}[sys.argv[1]]
    print(json.dumps(told(sys.argv[2], Path(sys.argv[3]))))
