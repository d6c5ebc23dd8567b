"""Any bytes as an HTML page, and as an HTTP response that says it is one."""

from collections.abc import Callable

from tests.fuzz.start import check, fuzz


def _load() -> Callable[[bytes], object]:
    from pipeline.ingest.archives import Record
    from pipeline.ingest.pages import links_in_page, links_of

    def one(page: bytes) -> None:
        check(links_in_page(page, "http://a.example/p", "text/html"))
        head = b"\nContent-Type: application/http"
        check(links_of(Record("response", head, b"HTTP/1.1 200\n" + page, len(page), False)))

    return one


if __name__ == "__main__":
    fuzz(_load)
