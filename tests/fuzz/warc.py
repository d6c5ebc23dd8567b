"""Any bytes as a WARC file, plain and packed."""

import gzip
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.fuzz.start import check, fuzz


def _load() -> Callable[[bytes], object]:
    from pipeline.ingest.links import links_in_wat
    from pipeline.ingest.pages import links_in_warc

    path = Path(tempfile.mkdtemp()) / "any.warc"

    def one(data: bytes) -> None:
        for stored in (data, gzip.compress(data), gzip.compress(data[::2]) + gzip.compress(data)):
            path.write_bytes(stored)
            check(links_in_wat(str(path)))
            check(links_in_warc(str(path)))

    return one


if __name__ == "__main__":
    fuzz(_load)
