"""Verify: shards of a run, or of any folder -> findings, and an exit code.

No run is needed, and no Java: local processes, one shard at a time each.
"""

import errno
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

from rich.console import Console

from jobs.progress import Progress
from jobs.run import Run
from pipeline import storage
from pipeline.errors import BadInput
from pipeline.storage import Place
from pipeline.verify import stranger, workers
from pipeline.verify.archive import Archive
from pipeline.verify.findings import Findings, shown
from pipeline.verify.folder import Folder, look
from pipeline.verify.keys import Keys, digest
from pipeline.verify.shards import Task

_SHOWN = 3
"""Of each kind, on the terminal."""
_KEYS_TOLD = 20
"""Keys in several shards whose spelling is looked up, which reads a shard again."""
_KEY_TWICE = "a key in two shards"


def main(
    folder: Place | None, run: Place | None, count: int | None, report: Path | None, *, quick: bool
) -> bool:
    """Verify the shards of `folder` or of `run`; whether they are whole."""
    progress, found = Progress(), Findings()
    _check_report(report)
    if not quick:
        stranger.needed()
    if run is not None:
        opened = Run.open(run, None, [])
        opened.manifest("shards")
        folder = opened.path("shards")
    if folder is None:
        raise BadInput("name what is verified: a folder of shards, or --run RUN")
    shards = look(folder, found, ours=run is not None)
    tasks = [
        Task(storage.absolute(folder), name, shards.promises.get(name), not quick)
        for name in shards.names
    ]
    samples = _verify(tasks, count or os.cpu_count() or 1, found, progress)
    said = _verdict(shards, samples, found, quick=quick)
    console = Console(highlight=False, soft_wrap=True)
    for line in [*_lines(found), said]:
        console.print(line, markup=False)
    if report is not None:
        _write(report, shards, samples, found, quick=quick)
    return not found


def _verify(tasks: list[Task], count: int, found: Findings, progress: Progress) -> int:
    """How many samples there are; what is wrong with them is told in `found`."""
    samples = 0
    with tempfile.TemporaryDirectory(prefix="wit-verify-") as scratch:
        keys = Keys(Path(scratch))
        try:
            with (
                progress.bar("shards", len(tasks), "shards") as meter,
                closing(workers.verified(tasks, count)) as seen_in_order,
            ):
                for number, seen in enumerate(seen_in_order):
                    samples += seen.samples
                    found.merge(seen.found)
                    keys.add(number, seen.keys)
                    meter.advance()
            _tell_twice(tasks, keys, found)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise BadInput(
                f"{scratch} is full, where keys are sorted (20 bytes each): make room, or set "
                "TMPDIR to another folder"
            ) from None
    return samples


def _tell_twice(tasks: list[Task], keys: Keys, found: Findings) -> None:
    times, first = keys.twice(_KEYS_TOLD)
    for twice in first:
        key = _spelt(tasks[twice.shard], twice.digest)
        found.add(_KEY_TWICE, tasks[twice.shard].name, key, None, f"as {tasks[twice.earlier].name}")
    found.count(_KEY_TWICE, times - len(first))


def _spelt(task: Task, wanted: bytes) -> str | None:
    """The key in a shard that is known by `wanted`."""
    try:
        with storage.local(storage.place(task.folder) / task.name) as path:
            archive = Archive(path, Findings(0), ours=False, deep=False)
            archive.read()
    except OSError:
        return None
    return next((key for key in archive.keys_once() if digest(key) == wanted), None)


def _lines(found: Findings) -> Iterator[str]:
    for kind, count in sorted(found.counts.items()):
        examples = "; ".join(str(finding) for finding in found.of(kind)[:_SHOWN])
        more = "; ..." if count > _SHOWN else ""
        yield f"{shown(kind)}: {count:,} ({examples}{more})"


def _verdict(shards: Folder, samples: int, found: Findings, *, quick: bool) -> str:
    what = f"{samples:,} samples in {len(shards.names):,} shards"
    unasked = []
    if not shards.ours:
        unasked.append("no index.json of ours: nothing to compare lengths and checksums with")
    if quick:
        unasked.append("images were not decoded")
    asked = f" ({'; '.join(unasked)})" if unasked else ""
    if not found:
        return f"{what}: whole{asked}"
    return f"{what}: not whole, findings: {len(found):,}{asked}"


def _check_report(report: Path | None) -> None:
    """Before hours of reading, and not behind them."""
    if report is not None and (not report.parent.is_dir() or report.is_dir()):
        raise BadInput(f"--report {report} cannot be written: name a file in a folder that exists")


def _write(report: Path, shards: Folder, samples: int, found: Findings, *, quick: bool) -> None:
    told: dict[str, Any] = {
        "folder": str(shards.path),
        "ours": shards.ours,
        "quick": quick,
        "shards": len(shards.names),
        "samples": samples,
        "whole": not found,
        "counts": dict(sorted(found.counts.items())),
        "findings": [finding._asdict() for finding in found],
    }
    staged = report.with_name(f".{report.name}.{uuid4().hex}")
    try:
        staged.write_text(json.dumps(told, indent=1), encoding="utf-8")
        staged.replace(report)
    except OSError as error:
        raise BadInput(f"--report {report} cannot be written ({error.strerror})") from None
    finally:
        staged.unlink(missing_ok=True)
