"""Stamps: what a source, a value and the code itself are known by in a manifest."""

import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pipeline import inputs, storage

MISSING = "missing"


def stamp(path: str) -> str:
    """What a source is known by: its size and time, in a store its size and the store's mark of
    its bytes. A missing one is named as such."""
    told = storage.stamp(storage.place(path))
    if told is None:
        return MISSING
    if not storage.is_address(path) and Path(path).is_dir():
        inner = [(f.name, stamp(str(f))) for f in sorted(Path(path).iterdir())]
        return digest(inner)
    return told


def stamps(paths: Sequence[str]) -> dict[str, str]:
    """The stamp of each path; stores are asked for many at a time."""
    return dict(zip(paths, inputs.each(stamp, paths), strict=True))


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def code_version() -> str:
    """The git commit, where the code is run from a checkout, else the distribution's version."""
    head = Path(__file__).parent.parent / ".git" / "HEAD"
    try:
        ref = head.read_text().strip().removeprefix("ref: ")
        file = head.parent / ref
        return file.read_text().strip() if file.exists() else ref
    except OSError:
        pass
    try:
        return version("webimagetext")
    except PackageNotFoundError:
        return "unknown"
