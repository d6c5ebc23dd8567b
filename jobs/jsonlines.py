"""JSON lines: appended whole, and read as far as they are whole."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline import storage
from pipeline.storage import Place

Line = dict[str, Any]


def append(path: Path, line: Mapping[str, Any]) -> None:
    """Write one line with one write, after what others have written at the same time.

    Of a line that a killed process left half written nothing is lost but itself.
    """
    raw = json.dumps(line, allow_nan=False).encode() + b"\n"
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        size = os.fstat(file).st_size
        if size and os.pread(file, 1, size - 1) != b"\n":
            raw = b"\n" + raw
        os.write(file, raw)
    finally:
        os.close(file)


def last(where: Place, max_bytes: int) -> list[Line]:
    """The whole lines in the last `max_bytes` of a file; none where there is no file."""
    size = storage.size(where)
    if size is None:
        return []
    start = max(0, size - max_bytes)
    raw = storage.read_at(where, start, size - start)
    return whole(raw.partition(b"\n")[2] if start else raw)


def whole(raw: bytes) -> list[Line]:
    """The lines that can be read; a half one, and whatever else is there, is passed over."""
    found: list[Line] = []
    for piece in raw.split(b"\n"):
        try:
            line = json.loads(piece)
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict):
            found.append(line)
    return found
