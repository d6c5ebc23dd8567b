"""Downloaders: ours and stock img2dataset, each a process of its own, and their stages.

`python -m benchmarks.downloaders NAME LIST OUT` downloads the rows of drawn in LIST into OUT.
"""

import hashlib
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks import web
from benchmarks.form import alternate
from pipeline.schemas import DRAWN, IMAGES
from pipeline.settings import DownloadSettings, SparkSettings

PROCESSES = 2
THREADS = 64
SIDE, QUALITY = 256, 90
_SECONDS, _RETRIES = 10, 1
_ROUNDS = 3


def settings() -> DownloadSettings:
    """Ours, as near to the peer's as they come; its limit is one for each try."""
    return DownloadSettings(
        threads=THREADS,
        retries=_RETRIES,
        deadline_seconds=_SECONDS * (_RETRIES + 1),
        allow_hosts=web.HOSTS,
        image_side=SIDE,
        jpeg_quality=QUALITY,
        fingerprints=False,
    )


def in_spark(source: Path, out: Path) -> None:
    """Ours as the stage runs it: a session, a task for each raw shard."""
    from jobs.spark import session
    from pipeline.download import download

    options = SparkSettings(master=f"local[{PROCESSES}]", partitions=PROCESSES)
    spark = session(options, out.with_name(f"{out.name}-spark"))
    download(spark.read.parquet(str(source)), str(out), settings()).collect()
    spark.stop()


def in_one_process(source: Path, out: Path) -> None:
    """Ours without Spark, one raw shard after the other."""
    _ours(pq.ParquetFile(source).read(), out, settings())


def stock(source: Path, out: Path, processes: int = PROCESSES) -> None:
    """img2dataset as its README uses it."""
    import img2dataset

    raw_shards = pq.ParquetFile(source).read(columns=["raw_shard"])["raw_shard"]
    img2dataset.download(
        url_list=str(source),
        output_folder=str(out),
        processes_count=processes,
        thread_count=THREADS,
        image_size=SIDE,
        resize_mode="keep_ratio",
        resize_only_if_bigger=True,
        encode_quality=QUALITY,
        encode_format="jpg",
        output_format="webdataset",
        input_format="parquet",
        url_col="url",
        caption_col="caption",
        save_additional_columns=["pair_id"],
        number_sample_per_shard=-(-len(raw_shards) // (pc.max(raw_shards).as_py() + 1)),
        compute_hash="sha256",
        timeout=_SECONDS,
        retries=_RETRIES,
        enable_wandb=False,
    )


def stock_in_one_process(source: Path, out: Path) -> None:
    """img2dataset with one worker."""
    stock(source, out, processes=1)


_Resized = tuple[bytes | None, int | None, int | None, int | None, int | None, str | None]
_CONTENDERS = {run.__name__: run for run in (in_spark, in_one_process, stock, stock_in_one_process)}


def stages(lists: dict[str, Path], files: list[bytes]) -> dict[str, dict[str, float]]:
    """CPU seconds of each stage for each image, ours and stock's, taking turns in this process.

    To fetch alone, everything that comes is refused by its size, by ours, or undecoded, by stock.
    Pixels and files are those of `files`, in memory.
    """
    resizers = _resizers()
    work: dict[str, Callable[[], object]] = {}
    counts: dict[str, int] = {}
    for scheme, source in lists.items():
        rows = pq.ParquetFile(source).read()
        work[f"{scheme} fetch, ours"] = partial(_fetch_ours, rows)
        work[f"{scheme} fetch, stock"] = partial(_fetch_stock, rows)
        counts[f"{scheme} fetch"] = rows.num_rows
    for name, resize in resizers.items():
        work[name] = partial(_each, resize, files)
    work["sha256, ours"] = partial(_each, lambda file: hashlib.sha256(file).hexdigest(), files)
    resized = [resizers["pixels, stock"](file) for file in files]
    told = rows.slice(0, len(files)).to_pylist()
    work["tar and parquet, ours"] = lambda: _write_ours(told, resized)
    work["tar and parquet, stock"] = lambda: _write_stock(told, resized)
    for once in work.values():  # compiles, and imports the rest
        once()
    found: dict[str, dict[str, float]] = {}
    for name, seconds in alternate(work, rounds=_ROUNDS).items():
        stage, whose = name.rsplit(", ", 1)
        found.setdefault(stage, {})[whose] = seconds / counts.get(stage, len(files))
    return found


def _each(work: Callable[[bytes], object], files: list[bytes]) -> None:
    for file in files:
        work(file)


def _resizers() -> dict[str, Callable[[bytes], _Resized]]:
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # or it asks the network at import
    from img2dataset.resizer import Resizer

    from pipeline.download.pixels import PixelResizer

    theirs = Resizer(
        image_size=SIDE,
        resize_mode="keep_ratio",
        resize_only_if_bigger=True,
        encode_quality=QUALITY,
        encode_format="jpg",
    )
    ours = PixelResizer(settings())
    hashing = PixelResizer(settings().model_copy(update={"fingerprints": True}))
    return {
        "pixels, ours": lambda file: ours(io.BytesIO(file)),
        "pixels, stock": lambda file: theirs(io.BytesIO(file)),
        "pixels and fingerprints, ours": lambda file: hashing(io.BytesIO(file)),
    }


def _ours(rows: pa.Table, out: Path, given: DownloadSettings) -> None:
    from pipeline.download.task import download_shard

    out.mkdir(exist_ok=True)
    for raw_shard in sorted(pc.unique(rows["raw_shard"]).to_pylist()):
        download_shard(rows.filter(pc.equal(rows["raw_shard"], raw_shard)), out, given)


def _fetch_ours(rows: pa.Table) -> None:
    with tempfile.TemporaryDirectory() as out:
        _ours(rows, Path(out), settings().model_copy(update={"min_side": 1 << 30}))


def _fetch_stock(rows: pa.Table) -> None:
    from img2dataset.downloader import Downloader
    from img2dataset.writer import WebDatasetSampleWriter

    rows = rows.select(["url", "caption", "pair_id"])
    with tempfile.TemporaryDirectory() as out:
        source = Path(out, "rows.arrow")
        with pa.OSFile(str(source), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
            writer.write_table(rows)
        downloader = Downloader(
            sample_writer_class=WebDatasetSampleWriter,
            resizer=lambda *_: (None, None, None, None, None, "refused"),
            thread_count=THREADS,
            save_caption=True,
            extract_exif=True,
            output_folder=out,
            column_list=rows.column_names,
            timeout=_SECONDS,
            number_sample_per_shard=rows.num_rows,
            oom_shard_count=5,
            compute_hash="sha256",
            verify_hash_type=None,
            encode_format="jpg",
            retries=_RETRIES,
            user_agent_token=None,
            disallowed_header_directives=["noai", "noimageai", "noindex", "noimageindex"],
        )
        downloader.download_shard((0, str(source)))


def _write_ours(rows: list[dict[str, Any]], resized: list[_Resized]) -> None:
    from pipeline.download.tars import OrderedSampleWriter

    with tempfile.TemporaryDirectory() as out:
        writer = OrderedSampleWriter(0, out, True, 5, IMAGES, "jpg")
        for row, picture in zip(rows, resized, strict=True):
            writer.write(picture[0], row["pair_id"], row["caption"], row | _facts(picture))
        writer.close()


def _write_stock(rows: list[dict[str, Any]], resized: list[_Resized]) -> None:
    from img2dataset.writer import WebDatasetSampleWriter

    # As its Downloader has them; the additional column comes with each row.
    names = ["url", "caption", "pair_id"]
    schema = pa.schema([DRAWN.field(name) for name in names])
    for name, kind in {"key": pa.string(), **{f.name: f.type for f in IMAGES}}.items():
        if name in _FACTS or name == "key":
            schema = schema.append(pa.field(name, kind))
    with tempfile.TemporaryDirectory() as out:
        writer = WebDatasetSampleWriter(0, out, True, 5, schema, "jpg")
        for row, picture in zip(rows, resized, strict=True):
            meta = {name: row[name] for name in names} | _facts(picture)
            meta["key"] = f"{row['position']:09d}"
            writer.write(picture[0], meta["key"], row["caption"], meta)
        writer.close()


_FACTS = ["status", "error_message", "width", "height", "original_width", "original_height"]
_FACTS += ["sha256"]


def _facts(picture: _Resized) -> dict[str, Any]:
    """What img2dataset's Downloader adds to a row."""
    return dict(zip(_FACTS, ("success", None, *picture[1:5], "0" * 64), strict=True))


def clear(out: Path) -> None:
    """Remove what a contender left."""
    for folder in (out, out.with_name(f"{out.name}-spark")):
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    Path(sys.argv[3]).mkdir(parents=True)
    _CONTENDERS[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
