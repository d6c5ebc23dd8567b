"""A small corpus, made into shards by the stage itself, and what was put in: the truth to compare.

Captions are as the web writes them, and the first samples know less of themselves than the later
ones do: a reader that guesses types from the first samples must not fall over the sixth.
"""

import hashlib
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image
from pyspark.sql import SparkSession

from jobs import load, shard
from jobs.ledger import Ledger
from jobs.run import Run
from pipeline.schemas import BALANCED

PAIRS = 20
PER_SHARD = 8
SHARDS = 3
"""The last one holds four."""
_RAW_SHARDS = 2
_KNOWN_FROM = 6
"""The first sample, in the order of the shards, whose page and language are known."""
_CONFIG = Path(__file__).parents[2] / "jobs" / "configs" / "tiny.toml"

_CAPTIONS = (
    "a red bicycle against a wall",
    "Ein Fahrrad für zwei – “zu zweit”",
    "自転車が壁に寄りかかっている",
    "دراجة حمراء بجانب الجدار",
    "two  spaces, a\ttab and a\nnewline",
    'quotes " and \\ backslashes, {"json": [1, 2]}',
    "👩‍👩‍👧‍👦 family 🚲",
    "123",
    "null",
    "e\u0301 is not é",
)


@dataclass(frozen=True)
class Pair:
    """A sample as it was put in."""

    key: str
    image: bytes
    caption: str

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.image).hexdigest()


def pairs() -> list[Pair]:
    """The pairs, in the order in which the stage must write them."""
    out = []
    for number in range(PAIRS):
        key = hashlib.sha256(f"pair {number}".encode()).hexdigest()[:32]
        caption = _CAPTIONS[number % len(_CAPTIONS)]
        out.append(Pair(key, _jpeg(number), f"{caption} {number // len(_CAPTIONS)}"))
    return out


def _jpeg(number: int) -> bytes:
    chance = np.random.default_rng(number)
    height, width = 48 + number % 3 * 16, 64 + number % 4 * 9
    coarse = chance.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(coarse).resize((width, height)).save(out, "JPEG", quality=90)
    return out.getvalue()


def write_run(root: Path, spark: SparkSession) -> Path:
    """Raw tars and the balanced table of `pairs`, then the stage's own job: the shards' folder."""
    run = Run(root, load.load(_CONFIG, [f"shard.samples_per_shard={PER_SHARD}"]))
    with run.stage("download", {}, {}):
        offsets = _write_raw(run.begin("images"))
        run.finish("images", Ledger(PAIRS, PAIRS))
    with run.stage("balance", {}, {}):
        rows = [_row(number, pair, offsets[number]) for number, pair in enumerate(pairs())]
        run.write_arrow("balanced", pa.Table.from_pylist(rows, BALANCED), Ledger(PAIRS, PAIRS))
    run.__dict__["spark"] = spark  # the session of all tests, where a run would start its own
    with run.stage("shard", {}, {}):
        shard.main(run)
    return run.path("shards")


def _place(number: int) -> tuple[int, int]:
    """The raw shard that a pair lies in, and its position there."""
    return divmod(number, -(-PAIRS // _RAW_SHARDS))


def _write_raw(folder: Path) -> list[int]:
    """The raw tars, and where in its own each pair's image begins."""
    offsets = []
    for raw_shard in range(_RAW_SHARDS):
        with tarfile.open(folder / f"{raw_shard:05d}.tar", "w", tarfile.USTAR_FORMAT) as tar:
            for number, pair in enumerate(pairs()):
                if _place(number)[0] == raw_shard:
                    offsets.append(tar.offset + 512)
                    add(tar, f"{pair.key}.jpg", pair.image)
    return offsets


def add(tar: tarfile.TarFile, name: str, data: bytes, **header: Any) -> None:
    """One more member, its header as the tar's format has it."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for field, value in header.items():
        setattr(member, field, value)
    tar.addfile(member, io.BytesIO(data))


def _row(number: int, pair: Pair, offset: int) -> dict[str, Any]:
    raw_shard, position = _place(number)
    width, height = Image.open(io.BytesIO(pair.image)).size
    row = {
        field.name: None if field.nullable else [] if pa.types.is_list(field.type) else number
        for field in BALANCED
    }
    row |= {"pair_id": pair.key, "caption": pair.caption, "sha256": pair.digest}
    row |= {"url": f"https://example.org/{number}.jpg", "status": "success"}
    row |= {"raw_shard": raw_shard, "position": position, "offset": offset}
    row |= {"bytes": len(pair.image), "width": width, "height": height}
    if number >= _KNOWN_FROM:
        row |= {"page_url": f"https://example.org/{number}", "language": "en"}
        row |= {"query_ids": [number], "kept_for": [number]}
    return row
