"""Raw shards of small JPEGs, as a download leaves them, and what balance keeps of their pairs."""

import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg
from PIL import Image

from benchmarks.scale_names import hexed
from benchmarks.scale_run import begun
from jobs.ledger import Ledger
from pipeline.download.tars import OrderedSampleWriter
from pipeline.schemas import BALANCED, IMAGES

_OF_RAW_SHARD = 10_000
_PHOTOS = 200
_SIDES = (96, 160)
"""Pixels of an image: JPEGs of 2 to 8 KB."""
_DROPPED = 10
"""One pair in so many does not stay."""

Pixels = npt.NDArray[np.uint8]


def photos(data: Path | None) -> list[Pixels]:
    """Pictures that small ones are cut from: real photos of `data`, or clouds of seeded noise."""
    tar = None if data is None else data / "photos" / "clothing_cc0.tar"
    if tar is None or not tar.is_file():
        return [_cloud(number) for number in range(_PHOTOS)]
    found = []
    with tarfile.open(tar) as members:
        for member in members:
            if member.isfile() and len(found) < _PHOTOS:
                data_of = members.extractfile(member).read()  # type: ignore[union-attr]
                with Image.open(io.BytesIO(data_of)) as image:
                    found.append(np.asarray(image.convert("RGB")))
    return found


def _cloud(number: int) -> Pixels:
    coarse = np.random.default_rng(number).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((256, 256), Image.Resampling.BICUBIC))


def make(folder: Path, rows: int, pictures: list[Pixels]) -> None:
    """A run that may begin with shard: so many images in raw shards, nine in ten of them kept."""
    run = begun(folder)
    kept = 0
    with run.stage("download", {}, {}):
        raw = run.begin("images").absolute()
        shards = range(-(-rows // _OF_RAW_SHARD))
        for shard in shards:
            # The download's own, and of img2dataset's arguments those that it looks at.
            writer = OrderedSampleWriter(shard, str(raw), True, 5, IMAGES, "jpg")
            count = min(_OF_RAW_SHARD, rows - shard * _OF_RAW_SHARD)
            for image, row in _pairs(shard, count, pictures):
                writer.write(image, "", row["caption"], row)
            writer.close()
        run.finish("images", Ledger(rows, rows))
    with run.stage("dedup", {}, {}):
        run.write_arrow("deduped", _deduped(rows), Ledger(rows, rows))
    with run.stage("balance", {}, {}):
        balanced = run.begin("balanced")
        for shard in shards:
            images = pq.ParquetFile(raw / f"{shard:05d}.parquet").read()
            stays = np.arange(images.num_rows) % _DROPPED != 0
            images = images.filter(pa.array(stays))
            kept += images.num_rows
            table = images.append_column("kept_for", images["drawn_for"]).cast(BALANCED)
            pq.write_table(table, balanced / f"part-{shard:06d}.parquet", compression="zstd")
        run.finish("balanced", Ledger(rows, kept, {"its queries are full": rows - kept}))


def _deduped(rows: int) -> pa.Table:
    """All of them."""
    names = hexed(np.arange(rows), 80, 2)
    nothing = pa.nulls(rows, pa.list_(pa.string()))
    return pa.table({"pair_id": names, "alternatives": nothing})


def _pairs(
    shard: int, count: int, pictures: list[Pixels]
) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """The images of a raw shard, each with its row."""
    chance = np.random.default_rng([9, shard])
    first = shard * _OF_RAW_SHARD
    names = hexed(np.arange(first, first + count), 80, 2).to_pylist()
    for place, name in enumerate(names):
        number = first + place
        picture = pictures[int(chance.integers(len(pictures)))]
        side = int(chance.integers(*_SIDES))
        top, left = (int(chance.integers(size - side)) for size in picture.shape[:2])
        pixels = np.ascontiguousarray(picture[top : top + side, left : left + side])
        image = simplejpeg.encode_jpeg(pixels, quality=85)
        queries = sorted(chance.integers(0, 100_000, 8).tolist())
        row = {
            "pair_id": name,
            "url": f"https://images.example/{number}/picture-of-{number * 7919}.jpg",
            "caption": f"a caption of some words about what is to be seen {number}",
            "page_url": f"https://pages.example/{number}.html",
            "language": "en",
            "query_ids": queries,
            "drawn_for": queries[:2],
            "round": 1,
            "raw_shard": shard,
            "position": place,
            "status": "success",
            **dict.fromkeys(("width", "height", "original_width", "original_height"), side),
            "sha256": hashlib.sha256(image).hexdigest(),
        }
        yield image, row
