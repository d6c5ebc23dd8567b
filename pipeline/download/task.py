"""Task: one raw shard, staged under a name of its own and moved into place when it is whole.

reads   rows of drawn
writes  00000.tar, 00000.parquet, and last 00000_stats.json

In a store there is no moving: pipeline.download.attempts.
"""

import fcntl
import hashlib
import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import compress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import poison, storage
from pipeline.download import attempts
from pipeline.raw_shards import SHARD_DIGITS, STATS, shard_name, stats_of_whole
from pipeline.schemas import DRAWN
from pipeline.settings import DownloadSettings
from pipeline.staged import GO_ON, room_in, scratch
from pipeline.storage import Place

_COUNTS = ("rows", "successes")
RESULTS = pa.schema(
    [
        pa.field("raw_shard", pa.int32()),
        *(pa.field(name, pa.int64()) for name in _COUNTS),
        *poison.FIELDS,
    ]
)
"""What a task says of its shard."""

_LOCK = "_placing.lock"
_FAILED_HOSTS = 100


def download_shards(
    batches: Iterable[pa.RecordBatch], folder: str, settings: DownloadSettings, tries: int = 1
) -> Iterator[pa.RecordBatch]:
    """Download every raw shard of `batches` that is not in `folder` yet.

    Of a task that may fail so many `tries` the last one tells of its shard what went wrong.
    """
    parts = [pa.Table.from_batches([batch]).select(DRAWN.names).cast(DRAWN) for batch in batches]
    if not parts:
        return
    drawn, into = pa.concat_tables(parts), storage.place(folder)
    for raw_shard in sorted(pc.unique(drawn["raw_shard"]).to_pylist()):
        rows = drawn.filter(pc.equal(drawn["raw_shard"], raw_shard))
        rows = rows.sort_by([("position", "ascending"), ("pair_id", "ascending")])
        made = poison.tried(download_shard, rows, into, settings, tries=tries)
        told: dict[str, Any] = {"raw_shard": raw_shard}
        if isinstance(made, poison.Trouble):
            told |= {**dict.fromkeys(_COUNTS, 0), **made._asdict()}
        else:
            told |= {name: made[name] for name in _COUNTS}
        yield pa.RecordBatch.from_pylist([told], schema=RESULTS)


def download_shard(rows: pa.Table, folder: Place, settings: DownloadSettings) -> dict[str, Any]:
    """Download one raw shard, unless it is there; its statistics.

    Raises BadInput when a disk of this machine is full.
    """
    raw_shard = rows["raw_shard"][0].as_py()
    name, pairs = shard_name(raw_shard), _digest(rows, settings)
    if storage.is_remote(folder):
        done = attempts.settled(folder, name, pairs)
    else:
        done = stats_of_whole(folder, name, pairs)
    if done is not None:
        return done
    # Beside the tables, so that a file moves into place by its name alone.
    beside = scratch() if storage.is_remote(folder) else folder
    with (
        room_in(beside, GO_ON),
        tempfile.TemporaryDirectory(prefix=f".{name}-", dir=beside) as staging,
    ):
        staged = Path(staging)
        began = time.monotonic()
        pace = _run_img2dataset(rows, raw_shard, staged, settings)
        stats = _stats(staged, raw_shard, pairs, rows.num_rows)
        # What another run would not repeat stands apart.
        stats["pace"] = {"seconds": round(time.monotonic() - began, 3), **pace}
        if storage.is_remote(folder):
            return attempts.settle(staged, folder, name, stats)
        (staged / f"{name}{STATS}").write_text(json.dumps(stats, indent=1, sort_keys=True))
        return _place(staged, folder, name, pairs, stats)


def _run_img2dataset(
    rows: pa.Table, raw_shard: int, staged: Path, settings: DownloadSettings
) -> dict[str, int]:
    """Write the shard's tar and parquet; what was asked of the network for it."""
    # Here and not above: the driver, too, imports this module, and these take seconds.
    from pipeline.download.fetch import Fetcher
    from pipeline.download.pixels import PixelResizer
    from pipeline.download.seam import Downloader, fetching_with
    from pipeline.download.tars import OrderedSampleWriter

    source = staged / "rows.arrow"
    with pa.OSFile(str(source), "wb") as sink, pa.ipc.new_file(sink, DRAWN) as writer:
        writer.write_table(rows)
    downloader = Downloader(
        sample_writer_class=OrderedSampleWriter,
        resizer=PixelResizer(settings),
        thread_count=settings.threads,
        save_caption=True,
        extract_exif=False,
        output_folder=str(staged),
        column_list=DRAWN.names,
        timeout=settings.deadline_seconds,
        number_sample_per_shard=rows.num_rows,
        oom_shard_count=SHARD_DIGITS,
        compute_hash="sha256",
        verify_hash_type=None,
        encode_format="jpg",
        retries=settings.retries,
        user_agent_token=None,
        disallowed_header_directives=None,
    )
    with Fetcher(settings, rows["url"].to_pylist()) as fetcher, fetching_with(fetcher.answer):
        # Not `downloader(...)`, which prints an error and goes on.
        downloader.download_shard((raw_shard, str(source)))
        return fetcher.pace


def _stats(staged: Path, raw_shard: int, pairs: str, rows: int) -> dict[str, Any]:
    """What there is to say of a staged shard. Raises RuntimeError when rows are missing."""
    name = shard_name(raw_shard)
    columns = ["url", "status", "reason", "bytes"]
    table = pq.ParquetFile(staged / f"{name}.parquet").read(columns=columns)
    if table.num_rows != rows:
        raise RuntimeError(f"{rows - table.num_rows} rows of raw shard {name} got lost")
    failed = table.filter(pc.is_valid(table["reason"]))
    of_each = [_host(url) for url in table["url"].to_pylist()]
    asked = Counter(of_each)
    hosts = Counter(compress(of_each, pc.is_valid(table["reason"]).to_pylist()))
    worst = hosts.most_common(_FAILED_HOSTS)
    statuses = Counter(table["status"].to_pylist())
    files = [f"{name}.tar", f"{name}.parquet"]
    return {
        "raw_shard": raw_shard,
        "pairs": pairs,
        "rows": rows,
        "successes": statuses["success"],
        "failed_to_download": statuses["failed_to_download"],
        "failed_to_resize": statuses["failed_to_resize"],
        "reasons": Counter(failed["reason"].to_pylist()),
        "failed_hosts": dict(worst),
        "asked_hosts": {host: asked[host] for host, _ in worst},
        "bytes": pc.sum(table["bytes"]).as_py() or 0,
        "files": {file: (staged / file).stat().st_size for file in files},
        "sha256": _sha256(staged / files[1]),
    }


def _sha256(path: Path) -> str:
    """Of the parquet: it holds the digest of every original, and is small."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _place(
    staged: Path, folder: Path, name: str, pairs: str, stats: dict[str, Any]
) -> dict[str, Any]:
    """Move a staged shard into place; the statistics of the one that is there afterwards.

    Two attempts at one shard may end together, with answers of the network that differ: without
    the lock the tar of one could lie beside the offsets of the other.
    """
    with _locked(folder / _LOCK):
        done = stats_of_whole(folder, name, pairs)
        if done is not None:
            return done
        (folder / f"{name}{STATS}").unlink(missing_ok=True)
        for file in (*stats["files"], f"{name}{STATS}"):
            (staged / file).replace(folder / file)
    return stats


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Alone among all processes; a lock of the system's, gone with the process that holds it."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _digest(rows: pa.Table, settings: DownloadSettings) -> str:
    """What a shard is made of: its pairs, in order, and the settings that change what it holds."""
    names = "\n".join(rows["pair_id"].to_pylist())
    made = settings.model_dump_json(exclude={*settings.pace, *settings.further})
    return hashlib.sha256(f"{made}\n{names}".encode()).hexdigest()


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or "(none)"
    except ValueError:
        return "(none)"
