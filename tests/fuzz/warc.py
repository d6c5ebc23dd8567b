"""Any bytes as a WARC file, plain and packed, and as what stands in and around its records."""

import gzip
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.fuzz.start import check, fuzz

_HEAD = b"WARC/1.0\r\nWARC-Type: %b\r\nContent-Type: application/http\r\nContent-Length: %d\r\n\r\n"


def _record(kind: bytes, block: bytes) -> bytes:
    return _HEAD % (kind, len(block)) + block + b"\r\n\r\n"


def _load() -> Callable[[bytes], object]:
    from pipeline.ingest.links import links_in_wat
    from pipeline.ingest.pages import links_in_warc

    path = Path(tempfile.mkdtemp()) / "any.warc"

    def one(data: bytes) -> None:
        records = _record(b"response", data) + data + _record(b"metadata", data)
        packed = gzip.compress(records)
        cut = packed[: len(data)] + packed[len(data) + 1 :]
        for stored in (data, records, packed, cut + packed, gzip.compress(data) + packed):
            path.write_bytes(stored)
            check(links_in_wat(str(path)))
            check(links_in_warc(str(path)))

    return one


if __name__ == "__main__":
    fuzz(_load)
