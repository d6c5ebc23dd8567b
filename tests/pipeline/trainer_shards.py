"""Shards of drawn pairs and of made files, for the tests of the trainer."""

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from jobs.ledger import Ledger
from pipeline import tokenizer

Files = list[tuple[str, bytes]]
COLOURS = {"red": (220, 30, 30), "green": (30, 170, 60), "blue": (40, 60, 220), "white": (250,) * 3}


def jpeg(colour, side, size=(80, 64), noise=0):
    """A picture whose named side, `left` or `right`, has the colour; the other is grey."""
    width, height = size
    pixels = np.full((height, width, 3), 110, dtype=np.uint8)
    half = slice(0, width // 2) if side == "left" else slice(width // 2, width)
    pixels[:, half] = COLOURS[colour]
    chance = np.random.default_rng(noise)
    pixels = np.clip(pixels + chance.integers(-20, 20, pixels.shape), 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=90)
    return out.getvalue()


def pairs(count):
    """`count` pairs (pair_id, image, caption); captions tell colour and side."""
    out = []
    for i in range(count):
        colour, side = list(COLOURS)[i % 4], ("left", "right")[i // 4 % 2]
        key = hashlib.sha256(str(i).encode()).hexdigest()[:32]
        image = jpeg(colour, side, (64 + i % 5 * 16, 64 + i % 3 * 20), noise=i)
        out.append((key, image, f"a {colour} thing on the {side} no {i}"))
    return out


def tar_of(files: Files, form: int = tarfile.USTAR_FORMAT, time: float = 0) -> bytes:
    """A tar of named files, all of one time."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), time
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def members(keys: Sequence[object]) -> Files:
    """An image and a caption of each key, which only say what they are."""
    return [
        (f"{key}.{suffix}", f"{suffix} of {key}".encode())
        for key in keys
        for suffix in ("jpg", "txt")
    ]


def write_shards(folder, samples, per_shard=8, *, index=True):
    """Write `samples` as the stage `shard` does."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = []
    for first in range(0, len(samples), per_shard):
        path = folder / f"{first // per_shard:06d}.tar"
        part, files = samples[first : first + per_shard], []
        for key, image, caption in part:
            told = json.dumps({"pair_id": key}).encode()
            files += [(f"{key}.jpg", image), (f"{key}.txt", caption.encode())]
            files.append((f"{key}.json", told))
        data = tar_of(files)
        path.write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        shards.append(
            {"name": path.name, "samples": len(part), "bytes": len(data), "sha256": digest}
        )
    if index:
        told = {"samples_per_shard": per_shard, "samples": len(samples), "shards": shards}
        (folder / "index.json").write_text(json.dumps(told))
    return folder


def shard_stage(run, drawn):
    """Write `drawn` as a finished stage `shard` of `run`, with the captions beside the shards."""
    with run.stage("shard", {}, {}):
        folder = write_shards(run.begin("shards"), drawn)
        captions = pa.table({"caption": [caption for _, _, caption in drawn]})
        pq.write_table(captions, folder / "000000.parquet")
        run.finish("shards", Ledger(len(drawn), len(drawn)))


def vocabulary_stage(run, merges):
    """Learn so many merges from the captions of the shards, as a finished `train-tokenizer`."""
    with run.stage("train-tokenizer", {}, {}):
        folder = run.begin("vocabulary")
        captions = run.read_arrow("shards", ["caption"])["caption"].to_pylist()
        learned = tokenizer.learn(tokenizer.count_words(captions), merges)
        tokenizer.Tokenizer(learned).save(folder / tokenizer.VOCABULARY)
        run.finish("vocabulary", Ledger(len(captions), len(captions)))
