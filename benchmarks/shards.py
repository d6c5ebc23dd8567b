"""Shards: writing them beside tarfile and webdataset, over 10,000 samples of about 22 KB.

python -m benchmarks.shards [FOLDER], where the shards are written: /dev/shm when not given. The
floor is writing the same bytes from one stretch of memory, 1 MiB at a time.
"""

import io
import random
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import webdataset

from benchmarks.form import Figure, cpu_seconds, publish
from pipeline import tars
from pipeline.compaction import compact
from pipeline.schemas import SAMPLE_MEMBERS, SHARDED

SAMPLES, ROUNDS, BLOCK = 10_000, 7, 1 << 20
WEBDATASET = f"webdataset {version('webdataset')}"
FLOOR = "writing the same bytes"
OURS, HASHED = "our writer", "our writer with sha256"
TARFILE, TAR_WRITER, SHARD_WRITER = "tarfile", "TarWriter, mtime=0", "ShardWriter"


def pairs() -> list[dict[str, Any]]:
    """Rows of balanced pairs with an image each, which only looks like a JPEG from afar."""
    chance = random.Random(0)
    noise = chance.randbytes(1 << 24)
    rows = []
    for number in range(SAMPLES):
        size = max(2000, int(chance.gauss(21_000, 5_000)))
        at = chance.randrange(len(noise) - size)
        row = {
            "pair_id": f"{chance.getrandbits(128):032x}",
            "url": f"https://images.example/{number}/picture-of-{number * 7919}.jpg",
            "page_url": f"https://pages.example/{number}.html",
            "caption": "a caption of some words about what is to be seen " + str(number),
            "query_ids": sorted(chance.sample(range(100_000), 8)),
            "kept_for": [number, number + 1],
            "drawn_for": [number],
            "sha256": f"{chance.getrandbits(256):064x}",
            "pixels_sha256": f"{chance.getrandbits(256):064x}",
            "pdq": chance.randbytes(32),
            "phash": chance.getrandbits(63),
            **dict.fromkeys(("width", "height", "original_width", "original_height"), 256),
            "round": 1,
            "position": number,
            "sample": number,
            "language": "en",
            "image": b"\xff\xd8" + noise[at : at + size],
        }
        rows.append(row)
    return rows


def raw_tar(rows: list[dict[str, Any]], folder: Path) -> pa.Table:
    """The rows as the stage gets them, and their images in a raw tar."""
    placed = []
    with tars.Writer(folder / "00000.tar") as tar:
        for row in rows:
            offset = tar.add(row["pair_id"], [("jpg", row["image"])])[0]
            placed.append(row | {"raw_shard": 0, "offset": offset, "bytes": len(row["image"])})
    return pa.Table.from_pylist(placed, pa.schema([f for f in SHARDED if f.name != "shard"]))


def samples_of(tar: Path) -> list[tuple[str, list[tuple[str, bytes]]]]:
    """The samples of a shard, in memory, as the writers are given them."""
    with tarfile.open(tar) as members:
        files = [(m.name.split(".")[0], members.extractfile(m).read()) for m in members]  # type: ignore[union-attr]
    steps = range(0, len(files), len(SAMPLE_MEMBERS))
    ends = [[data for _, data in files[at : at + len(SAMPLE_MEMBERS)]] for at in steps]
    named = [list(zip(SAMPLE_MEMBERS, datas, strict=True)) for datas in ends]
    return [(files[at][0], members) for at, members in zip(steps, named, strict=True)]


def writers(tar: Path, out: Path) -> dict[str, Callable[[], object]]:
    samples, whole = samples_of(tar), memoryview(tar.read_bytes())
    dicts = [{"__key__": key, **dict(members)} for key, members in samples]

    def floor() -> None:
        with out.open("wb", buffering=0) as file:
            for at in range(0, len(whole), BLOCK):
                file.write(whole[at : at + BLOCK])

    def ours(*, digest: bool) -> None:
        with tars.Writer(out, digest=digest) as writer:
            for key, members in samples:
                writer.add(key, members)

    def by_tarfile() -> None:
        with tarfile.open(out, "w", format=tarfile.USTAR_FORMAT) as archive:
            for key, members in samples:
                for extension, data in members:
                    info = tarfile.TarInfo(f"{key}.{extension}")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))

    def by_tar_writer() -> None:
        with webdataset.TarWriter(str(out), mtime=0, encoder=False) as writer:
            for sample in dicts:
                writer.write(sample)

    def by_shard_writer() -> None:
        pattern = str(out.with_name("shard-%06d.tar"))
        with webdataset.ShardWriter(pattern, maxcount=SAMPLES, verbose=0) as writer:
            for sample in dicts:
                writer.write(sample)

    return {
        FLOOR: floor,
        OURS: lambda: ours(digest=False),
        HASHED: lambda: ours(digest=True),
        TARFILE: by_tarfile,
        TAR_WRITER: by_tar_writer,
        SHARD_WRITER: by_shard_writer,
    }


def alternated(
    contenders: dict[str, Callable[[], object]], clear: Callable[[], None]
) -> dict[str, tuple[float, float]]:
    """Median CPU and wall seconds of each, in turn; what was written is removed in between."""
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, work in contenders.items():
            clear()
            began = time.perf_counter()
            cpu = cpu_seconds(work)
            spent[name].append((cpu, time.perf_counter() - began))
    medians = {name: np.median(np.array(rounds), axis=0) for name, rounds in spent.items()}
    return {name: (float(cpu), float(wall)) for name, (cpu, wall) in medians.items()}


def main(parent: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="bench-shards-", dir=parent) as folder:
        raw, final, out = (Path(folder, name) for name in ("raw", "final", "out"))
        for made in (raw, final, out):
            made.mkdir()
        rows = raw_tar(pairs(), raw)
        written = compact(rows, 0, raw, final)
        contenders = writers(final / written.name, out / "a.tar")
        for ours in (OURS, TARFILE):
            contenders[ours]()
            same = (out / "a.tar").read_bytes() == (final / written.name).read_bytes()
            assert same, f"{ours} writes other bytes"
        contenders["the stage's task"] = lambda: compact(rows, 0, raw, out)
        contenders["the same, already there"] = lambda: compact(rows, 0, raw, final)

        def clear() -> None:
            for file in out.iterdir():
                file.unlink()

        spent = alternated(contenders, clear)
        megabytes = written.bytes / 1e6
    cpu = {name: megabytes / max(seconds, 1e-9) for name, (seconds, _) in spent.items()}
    wall = {name: megabytes / seconds for name, (_, seconds) in spent.items()}
    print(f"{SAMPLES:,} samples, {megabytes:.0f} MB, in {parent}; medians of {ROUNDS} rounds")
    figures = []
    for goal, peer, told in ((0.65, FLOOR, "raw write"), (10.0, SHARD_WRITER, WEBDATASET)):
        for unit, rates in (("MB/CPU s", cpu), ("MB/s", wall)):
            name = f"{OURS}, beside {peer}"
            at_stake = goal if unit == "MB/CPU s" else None
            figures.append(Figure(name, rates[OURS], unit, rates[peer], told, goal=at_stake))
    for name, told in (
        (HASHED, FLOOR),
        (TARFILE, FLOOR),
        (TAR_WRITER, FLOOR),
        (SHARD_WRITER, FLOOR),
        ("the stage's task", FLOOR),
    ):
        figures.append(Figure(name, cpu[name], "MB/CPU s", cpu[told], "raw write"))
    for name in ("the stage's task", "the same, already there"):
        seconds = spent[name]
        figures.append(Figure(f"{name}: per core", SAMPLES / seconds[0], "samples/CPU s"))
        figures.append(Figure(f"{name}: on the clock", SAMPLES / seconds[1], "samples/s"))
    publish("shards", figures)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "/dev/shm"))  # noqa: S108
