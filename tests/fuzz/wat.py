"""Any bytes as the payload of a WAT record, and as the links and the base in one."""

from collections.abc import Callable

from tests.fuzz.start import check, fuzz

_AROUND = (
    b'{"Envelope":{"WARC-Header-Metadata":{"WARC-Target-URI":"http://a.example/p/"},'
    b'"Payload-Metadata":{"HTTP-Response-Metadata":{"HTML-Metadata":{%b}}}}}'
)
_LINKS = b'"Links":[{"path":"IMG@/src","url":"x","alt":"y"},%b]'
_URLS = b'"Head":{"Base":"%b"},"Links":[{"path":"IMG@/src","url":"%b","alt":"%b"}]'


def _load() -> Callable[[bytes], object]:
    from pipeline.ingest.links import links_in

    def one(payload: bytes) -> None:
        check(links_in(payload))
        check(links_in(_AROUND % (_LINKS % payload)))
        third = len(payload) // 3
        texts = (payload[:third], payload[third : 2 * third], payload[2 * third :])
        check(links_in(_AROUND % (_URLS % texts)))

    return one


if __name__ == "__main__":
    fuzz(_load)
