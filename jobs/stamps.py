"""Stamps: what a source, a value and the code itself are known by in a manifest."""

import hashlib
import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def stamp(path: str) -> str:
    """What a source file is known by: its size and time. A missing one is named as such."""
    try:
        stat = Path(path).stat()
    except OSError:
        return "missing"
    if Path(path).is_dir():
        inner = [(f.name, stamp(str(f))) for f in sorted(Path(path).iterdir())]
        return digest(inner)
    return f"{stat.st_size} bytes, {stat.st_mtime_ns} ns"


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
