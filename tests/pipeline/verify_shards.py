"""Shards as `wit shard` writes them, for the tests of what verifies them."""

import hashlib
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline import places, tars
from pipeline.card import card
from pipeline.compaction import IN_JSON
from pipeline.schemas import PLACES, SHARDED
from pipeline.verify.findings import Findings
from pipeline.verify.folder import look
from pipeline.verify.shards import Task, verify

Pair = tuple[str, bytes, str]
Member = tuple[str, bytes]


def jpeg(seed: int, side: int = 48) -> bytes:
    chance = np.random.default_rng(seed)
    noise = chance.integers(0, 255, (side, side + seed % 5, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, "JPEG", quality=90)
    return out.getvalue()


def pairs(count: int, first: int = 0) -> list[Pair]:
    """`count` pairs of key, image and caption."""
    numbers = range(first, first + count)
    keys = [hashlib.sha256(str(n).encode()).hexdigest()[:32] for n in numbers]
    return [(key, jpeg(n), f"caption {n} ü") for key, n in zip(keys, numbers, strict=True)]


def members(pair: Pair) -> list[Member]:
    key, image, caption = pair
    told = json.dumps({"pair_id": key, "caption": caption}).encode()
    return [(f"{key}.jpg", image), (f"{key}.txt", caption.encode()), (f"{key}.json", told)]


def write_tar(path: Path, samples: list[list[Member]]) -> list[tuple[int, ...]]:
    """Where the image and the caption of each sample lie."""
    rows = []
    with path.open("wb") as tar:
        for sample in samples:
            lies = {name[-3:]: (tars.append(tar, name, data), len(data)) for name, data in sample}
            rows.append((*lies.get("jpg", (0, 0)), *lies.get("txt", (0, 0))))
        tars.close(tar)
    return rows


def write_ours(folder: Path, samples: list[Pair], per_shard: int = 4) -> Path:
    """A folder with all that belongs into it."""
    folder.mkdir(parents=True, exist_ok=True)
    for n, first in enumerate(range(0, len(samples), per_shard)):
        part = samples[first : first + per_shard]
        tar = folder / f"{n:06d}.tar"
        rows = write_tar(tar, [members(pair) for pair in part])
        write_sidecar(tar, part, rows)
        write_places(tar, [key for key, _, _ in part], rows)
    write_index(folder, per_shard)
    (folder / "README.md").write_text(card(IN_JSON))
    return folder


def write_sidecar(tar: Path, part: list[Pair], rows: list[tuple[int, ...]]) -> None:
    given: dict[str, list[Any]] = {
        "shard": [tar.name] * len(part),
        "sample": list(range(len(part))),
        "pair_id": [key for key, _, _ in part],
        "caption": [caption for _, _, caption in part],
        "offset": [row[0] for row in rows],
        "bytes": [row[1] for row in rows],
    }
    columns = [given.get(f.name, _empty(f) * len(part)) for f in SHARDED]
    arrays = [pa.array(c, f.type) for c, f in zip(columns, SHARDED, strict=True)]
    table = pa.Table.from_arrays(arrays, schema=SHARDED)
    pq.write_table(table, tar.with_suffix(".parquet"), write_page_checksum=True)


def _empty(field: pa.Field) -> list[Any]:
    if field.nullable:
        return [None]
    return [[]] if pa.types.is_list(field.type) else ["" if field.type == "string" else 0]


def write_places(tar: Path, keys: list[str], rows: list[tuple[int, ...]]) -> None:
    columns = [keys, *[list(column) for column in zip(*rows, strict=True)], [False] * len(keys)]
    arrays = [pa.array(c, f.type) for c, f in zip(columns, PLACES, strict=True)]
    table = pa.Table.from_arrays(arrays, schema=PLACES)
    places.write(tar.with_suffix(".places"), table, tar.stat().st_size, {})


def write_index(folder: Path, per_shard: int = 4) -> None:
    """The index and the sizes of the tars as they are: their checksums fit."""
    shards = []
    for tar in sorted(folder.glob("*.tar")):
        data = tar.read_bytes()
        rows = pq.read_metadata(tar.with_suffix(".parquet")).num_rows
        digest = hashlib.sha256(data).hexdigest()
        shards.append({"name": tar.name, "samples": rows, "bytes": len(data), "sha256": digest})
    told = {
        "samples_per_shard": per_shard,
        "samples": sum(shard["samples"] for shard in shards),
        "shards": shards,
    }
    (folder / "index.json").write_text(json.dumps(told))
    sizes = {shard["name"]: shard["samples"] for shard in shards}
    (folder / "sizes.json").write_text(json.dumps(sizes))


def kinds(folder: Path, *, deep: bool = True) -> Counter[str]:
    """What is told of a folder, by kind; keys in several shards apart."""
    found = Findings()
    looked = look(folder, found)
    for name in looked.names:
        found.merge(verify(Task(str(folder), name, looked.promises.get(name), deep)).found)
    return found.counts
