"""Loader: batches of images and tokens, beside open_clip's pipeline and webdataset: CPU time.

python -m benchmarks.loader [DATA [ROUNDS]], where DATA/photos holds coco_mini_239.tar and a .jsonl
with its captions. Without DATA the pictures are clouds of noise, whose spectrum falls as that of
photos does.
"""

import hashlib
import io
import json
import mmap
import os
import random
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image, ImageEnhance

from benchmarks import loaders
from benchmarks.form import Figure, alternate, publish
from pipeline import places, tars, tokenizer

SHARDS, PER_SHARD, ROUNDS = 20, 500, 5
SMALL_SHARDS, PER_SMALL_SHARD = 1000, 8
SHORTER, LONGER, QUALITY = 256, 341, 90
_CLOUDS, _MERGES, _STARTS = 60, 2000, 5
_WORDS = 5000
_PATIENCE = 900
_WDS = f"webdataset {version('webdataset')}"
_PILLOW = f"Pillow {version('pillow')}"

Pair = tuple[bytes, str]


def photos(data: Path) -> tuple[list[Image.Image], list[str]]:
    tar = next(data.rglob("coco_mini_239.tar"))
    lines = tar.with_suffix(".jsonl").read_text(encoding="utf-8").splitlines()
    captions = [caption for line in lines for caption in json.loads(line)["captions"]]
    found = []
    with tarfile.open(tar) as members:
        for member in members:
            file = members.extractfile(member)
            if member.name.endswith(".jpg") and file is not None:
                found.append(Image.open(io.BytesIO(file.read())).convert("RGB"))
    return found, captions


def clouds() -> tuple[list[Image.Image], list[str]]:
    """Pictures of noise in which a frequency has the amplitude 1/f, and captions of made words."""
    chance = np.random.default_rng(0)
    height, width = 3 * SHORTER // 2, 3 * LONGER // 2
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]
    amplitude = 1 / np.maximum(np.hypot(rows, columns), 1 / width)
    found = []
    for _ in range(_CLOUDS):
        waves = np.fft.fft2(chance.standard_normal((3, height, width))) * amplitude
        planes = np.fft.ifft2(waves).real
        # Most of what photos show is grey: their colours follow their light.
        planes = 0.8 * planes[:1] + 0.2 * planes
        planes = 128 + 55 * (planes - planes.mean()) / planes.std()
        found.append(Image.fromarray(planes.clip(0, 255).astype(np.uint8).transpose(1, 2, 0)))
    words = ["".join(map(chr, 97 + chance.integers(0, 26, 2 + n % 7))) for n in range(_WORDS)]
    ranks = chance.zipf(1.3, (5 * _CLOUDS, 11)) % _WORDS
    return found, [" ".join(words[rank] for rank in line) for line in ranks]


def pairs(pictures: list[Image.Image], captions: list[str], count: int) -> Iterator[Pair]:
    """As many as are asked for: each a part of a picture, somewhat lighter or darker."""
    chance = random.Random(0)
    for number in range(count):
        picture = pictures[number % len(pictures)]
        cut = min(picture.width / LONGER, picture.height / SHORTER) * chance.uniform(0.85, 1)
        width, height = LONGER * cut, SHORTER * cut
        left = chance.uniform(0, picture.width - width)
        top = chance.uniform(0, picture.height - height)
        box = (left, top, left + width, top + height)
        small = picture.resize((LONGER, SHORTER), Image.Resampling.BICUBIC, box)
        file = io.BytesIO()
        lit = ImageEnhance.Brightness(small).enhance(chance.uniform(0.85, 1.15))
        lit.save(file, "JPEG", quality=QUALITY)
        yield file.getvalue(), captions[number % len(captions)]


def write(folder: Path, source: Iterator[Pair], shards: int, per_shard: int) -> None:
    """Shards as `wit shard` writes them, but for their sidecars."""
    told = []
    for number in range(shards):
        path = folder / f"{number:06d}.tar"
        rows = []
        with path.open("wb") as tar:
            for place in range(per_shard):
                image, caption = next(source)
                key = hashlib.sha256(f"{number} {place}".encode()).hexdigest()[:32]
                more = json.dumps({"pair_id": key, "width": LONGER, "height": SHORTER}).encode()
                text = caption.encode()
                image_at = tars.append(tar, f"{key}.jpg", image)
                text_at = tars.append(tar, f"{key}.txt", text)
                tars.append(tar, f"{key}.json", more)
                rows.append((key, image_at, len(image), text_at, len(text), False))
            tars.close(tar)
        size = path.stat().st_size
        columns = zip(*rows, strict=True)
        table = pa.table([pa.array(column) for column in columns], names=places.PLACES.names)
        places.write(folder / places.beside(path.name), table.cast(places.PLACES), size, {})
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        told.append({"name": path.name, "samples": per_shard, "bytes": size, "sha256": digest})
    index = {"samples_per_shard": per_shard, "samples": shards * per_shard, "shards": told}
    (folder / "index.json").write_text(json.dumps(index))


def run(what: str, name: str, folder: Path) -> Any:
    """What benchmarks.loaders tells in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.loaders", what, name, str(folder)]
    began = {loaders.BEGAN: str(time.monotonic())}
    alone = os.environ | {"OMP_NUM_THREADS": "1"} | began
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=_PATIENCE, check=True, env=alone)
    return json.loads(done.stdout.splitlines()[-1])


def speed(folder: Path, rounds: int) -> list[Figure]:
    """Samples per CPU second, medians of rounds in which the contenders take turns."""
    rates: dict[str, list[float]] = {name: [] for name in loaders.CONTENDERS}
    clocks: dict[str, list[float]] = {name: [] for name in loaders.CONTENDERS}
    for _ in range(rounds):
        for name in loaders.CONTENDERS:
            cost = run("cost", name, folder)
            rates[name].append(cost["samples"] / cost["cpu"])
            clocks[name].append(cost["samples"] / cost["wall"])
    for name, found in rates.items():
        told = f"{min(found):,.0f} to {max(found):,.0f}"
        clock = f"{statistics.median(clocks[name]):,.0f} on the clock"
        print(f"{name}: {told} samples per CPU second, {clock}")
    rate = {name: statistics.median(found) for name, found in rates.items()}
    unit, us = "samples/CPU s", "batches, 2 workers"
    fast = f"{_WDS}, our decoder"
    return [
        Figure(us, rate["ours"], unit, rate["open_clip_like"], f"{_WDS}, {_PILLOW}", goal=6),
        Figure(us, rate["ours"], unit, rate["webdataset_fast"], fast, goal=1.6),
        Figure(us, rate["ours"], unit, rate["decode_alone"], "decode alone", goal=0.5),
        Figure(us, rate["ours"], unit, rate["crop_and_decode"], "our pixels alone"),
    ]


def reading(folder: Path) -> list[Figure]:
    """Microseconds of CPU to have the bytes of an image, from memory that the system keeps."""
    found = []
    for path in sorted(folder.glob("*.tar")):
        told = places.read(folder / places.beside(path.name), path.stat().st_size)
        file = os.open(path, os.O_RDONLY)
        mapped = mmap.mmap(file, 0, access=mmap.ACCESS_READ)
        pairs_ = zip(told.image.tolist(), told.image_bytes.tolist(), strict=True)
        found += [(file, mapped, at, size) for at, size in pairs_]
    random.Random(0).shuffle(found)
    ways: dict[str, Callable[[], object]] = {
        "pread": lambda: [os.pread(file, size, at) for file, _, at, size in found],
        "mmap": lambda: [mapped[at : at + size] for _, mapped, at, size in found],
    }
    for work in ways.values():
        work()
    micro = {way: 1e6 * spent / len(found) for way, spent in alternate(ways, rounds=9).items()}
    return [Figure("reading an image by pread", micro["pread"], "us", micro["mmap"], "mmap")]


def starting(folder: Path) -> list[Figure]:
    figures = []
    for name in ("with_torch", "loader_alone"):
        told = [run("start", name, folder) for _ in range(_STARTS)]
        seconds, cpu = (statistics.median(t[key] for t in told) for key in ("seconds", "cpu"))
        figure = f"first sample, 1,000 shards, {name.replace('_', ' ')}"
        figures.append(Figure(figure, seconds, "s", goal=2, at_most=True))
        figures.append(Figure(figure, cpu, "CPU s"))
    return figures


def memory(folder: Path) -> list[Figure]:
    found = run("memory", "ours", folder)["bytes"]
    print("memory over an epoch, MiB:", *(f"{size / 2**20:,.0f}" for size in found))
    sizes = [found[-1] / 2**20, found[0] / 2**20]
    name = "memory at the end of an epoch"
    return [Figure(name, sizes[0], "MiB", sizes[1], "its start", goal=1.1, at_most=True)]


def main(data: Path | None, rounds: int) -> None:
    pictures, captions = clouds() if data is None else photos(data)
    source = "made of noise" if data is None else f"of {len(pictures)} photos"
    with tempfile.TemporaryDirectory(prefix="bench-loader-") as made:
        large, small = Path(made, "large"), Path(made, "small")
        merges = tokenizer.learn(tokenizer.count_words(captions), _MERGES)
        for folder in (large, small):
            folder.mkdir()
            tokenizer.Tokenizer(merges).save(folder / loaders.MERGES)
        write(large, pairs(pictures, captions, SHARDS * PER_SHARD), SHARDS, PER_SHARD)
        few = [*pairs(pictures, captions, PER_SMALL_SHARD)]
        many = iter(few * SMALL_SHARDS)
        write(small, many, SMALL_SHARDS, PER_SMALL_SHARD)
        size = sum(path.stat().st_size for path in large.glob("*.tar"))
        print(f"{SHARDS * PER_SHARD:,} samples {source}, {size / 2**20:,.0f} MiB")
        run("cost", "crop_and_decode", small)  # kernels are compiled
        figures = [*starting(small), *reading(large), *memory(large), *speed(large, rounds)]
    publish("loader", figures)


if __name__ == "__main__":
    data = Path(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1] else None
    main(data, int(sys.argv[2]) if len(sys.argv) > 2 else ROUNDS)
