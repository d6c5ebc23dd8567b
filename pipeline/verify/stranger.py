"""Stranger: a shard as the webdataset package reads it, beside what lies there."""

import os
import tarfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline.errors import BadInput
from pipeline.members import MAX_BYTES
from pipeline.verify.archive import Sample
from pipeline.verify.findings import Findings

KIND = "webdataset reads other samples"


def needed() -> None:
    """Raises BadInput where the package is not there."""
    if find_spec("webdataset") is None:
        raise BadInput(
            "the webdataset package is not installed: `pip install 'webimagetext[train]'`, or "
            "verify with --quick, which does without"
        )


def compare(path: Path, samples: Sequence[Sample], found: Findings, *, is_plain: bool) -> None:
    """Tell of the first sample that webdataset reads otherwise than it lies in the tar."""
    unsafe = None if is_plain else _unsafe(path)
    if unsafe is not None:
        found.add(KIND, path.name, detail=f"not tried: {unsafe}")
        return
    with path.open("rb") as file:
        seen = _samples(file.fileno())
        for sample in samples:
            try:
                other = next(seen, None)
            except Exception as error:  # noqa: BLE001 - the package raises whatever it likes
                said = str(error).partition(" @ ")[0].partition("\n")[0]
                told = f"it stops with {type(error).__name__} {said}"
                found.add(KIND, path.name, sample.key, sample.at, told)
                return
            differs = _difference(file.fileno(), sample, other)
            if differs:
                found.add(KIND, path.name, sample.key, sample.at, differs)
                return
        try:
            more = next(seen, None)
        except Exception as error:  # noqa: BLE001 - as above
            found.add(KIND, path.name, detail=f"it ends with {type(error).__name__}")
            return
    if more is not None:
        found.add(KIND, path.name, _plain(more["__key__"]), detail="it reads more of them")


def _samples(file: int) -> Iterator[dict[str, Any]]:
    import webdataset

    # By its number, since names are patterns to the package, and may be commands.
    shards = [f"/dev/fd/{file}"]
    return iter(
        webdataset.WebDataset(
            shards, shardshuffle=False, nodesplitter=None, workersplitter=None, empty_check=False
        )
    )


def _difference(file: int, sample: Sample, other: dict[str, Any] | None) -> str:
    if other is None:
        return "it ends before this one"
    if _plain(other["__key__"]) != sample.key:
        return f"it reads {_plain(other['__key__'])} here"
    extensions = {name for name in other if not name.startswith("__")}
    if {_plain(name) for name in extensions} != set(sample.parts):
        return "other members"
    for extension in extensions:
        begin, size = sample.parts[_plain(extension)]
        # Long ones in one piece are held twice, by the package too.
        if os.pread(file, size, begin) != other[extension]:
            return f"another {extension}"
    return ""


def _plain(name: str) -> str:
    """As pipeline.members spells names that are no UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _unsafe(path: Path) -> str | None:
    """Why tarfile would make more of the archive than there is in it: sparse members are unfolded.

    Only headers are read.
    """
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if member.issparse():
                    return "it holds a sparse member"
                if member.isreg() and member.size > MAX_BYTES:
                    return f"it holds a member of {member.size:,} bytes"
                tar.members = []  # type: ignore[attr-defined]
    except MemoryError:
        return "a header claims more than there is"
    except Exception:  # noqa: BLE001 - whatever it is, the package stops there too
        return None
    return None
