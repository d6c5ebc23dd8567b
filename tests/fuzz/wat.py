"""Any bytes as the payload of a WAT record."""

from collections.abc import Callable

from tests.fuzz.start import check, fuzz


def _load() -> Callable[[bytes], object]:
    from pipeline.ingest.links import links_in

    return lambda payload: check(links_in(payload))


if __name__ == "__main__":
    fuzz(_load)
