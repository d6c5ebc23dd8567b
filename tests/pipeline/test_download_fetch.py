"""Fetch, against a loopback server that is slow, endless, or lies about its size."""

import gzip
import socketserver
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from download_site import (
    Site,
    body,
    dripping,
    endless,
    fetch,
    fetch_all,
    in_turn,
    picture,
    raw,
    refusal,
    serving,
    stalling,
    status,
    staying,
)

from pipeline.download.fetch import Fetcher
from pipeline.download.reasons import FetchError
from pipeline.download.wire import authorities
from pipeline.settings import DownloadSettings

# A key for these tests alone, and its certificate for 127.0.0.1, good for a hundred years.
_PEM = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgLUrOPVfFwcu1cKaB
3JyjKUM4GUEr+QdsYJU2IZvhr72hRANCAASianU0k3iju9uibIVOgnBBrFv8zahH
bl+7cRvpMrIbNukPpmiBA4djYG7BrEiBSKq1jFd6VcGNuIPQAzUG8e25
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBjjCCATSgAwIBAgIUWlDjLKLUXPHoA7urSvEuqimo8LgwCgYIKoZIzj0EAwIw
EzERMA8GA1UEAwwIbG9vcGJhY2swIBcNMjYxMTIxMDUzNDEzWhgPMjEyNjEwMjgw
NTM0MTNaMBMxETAPBgNVBAMMCGxvb3BiYWNrMFkwEwYHKoZIzj0CAQYIKoZIzj0D
AQcDQgAEomp1NJN4o7vbomyFToJwQaxb/M2oR25fu3Eb6TKyGzbpD6ZogQOHY2Bu
waxIgUiqtYxXelXBjbiD0AM1BvHtuaNkMGIwHQYDVR0OBBYEFGtSxcy6j7u5cFRz
9mSfRKj432HlMB8GA1UdIwQYMBaAFGtSxcy6j7u5cFRz9mSfRKj432HlMA8GA1Ud
EwEB/wQFMAMBAf8wDwYDVR0RBAgwBocEfwAAATAKBggqhkjOPQQDAgNIADBFAiEA
wtR5DybI1DIt+SvRGUlPrPLyEn5Ip1fmT8FYXvKmFhACIGAjhyChaxsORshfH3XI
eChWmVax4+r2iC5QdslSjEyx
-----END CERTIFICATE-----
"""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serving() as site:
        yield site


def test_a_picture_arrives_byte_for_byte(site: Site) -> None:
    image = picture()
    assert fetch(site.at("/whole", body(image)), site.settings()) == image


def test_a_chunked_body_is_put_together(site: Site) -> None:
    chunked = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )
    assert fetch(site.at("/chunked", raw(chunked)), site.settings()) == b"abcde"


def test_we_say_who_we_are_and_how_to_reach_us(site: Site) -> None:
    settings = site.settings(user_agent="someone/1", contact="mailto:a@example.org")
    fetch(site.at("/who", body(b"x")), settings)
    assert site.headers["/who"]["user-agent"] == "someone/1 (+mailto:a@example.org)"
    assert site.headers["/who"]["host"] == site.host


@pytest.mark.parametrize(
    "answer",
    [
        dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"),
        dripping(b"HTTP/1.1 200 OK\r\nX-Endless: "),
        dripping(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n"),
        stalling(),
        stalling(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc"),
    ],
    ids=["body drips", "headers drip", "chunk drips", "no answer", "body stalls"],
)
def test_the_deadline_ends_any_answer(site: Site, answer) -> None:
    url, began = site.at("/slow", answer), time.monotonic()
    assert refusal(url, site.settings(deadline_seconds=0.4, retries=3)) == "timeout"
    assert time.monotonic() - began < 2


def test_the_deadline_is_one_for_all_redirects(site: Site) -> None:
    def slow_redirect(exchange) -> None:
        exchange.rest(0.2)
        exchange.send(b"HTTP/1.1 302 Found\r\nLocation: /round\r\n\r\n")

    url = site.at("/round", slow_redirect)
    assert refusal(url, site.settings(deadline_seconds=0.5, max_redirects=50)) == "timeout"


def test_a_handshake_that_never_comes_meets_the_deadline(site: Site) -> None:
    url = site.at("/", stalling()).replace("http://", "https://")
    assert refusal(url, site.settings(deadline_seconds=0.4)) == "timeout"


def test_a_name_server_that_never_answers_meets_the_deadline(monkeypatch) -> None:
    over = threading.Event()
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: over.wait(30))
    began = time.monotonic()
    try:
        assert (
            refusal("http://images.example/", DownloadSettings(deadline_seconds=0.3)) == "timeout"
        )
    finally:
        over.set()
    assert time.monotonic() - began < 2


def test_a_body_that_says_it_is_too_large_is_not_read(site: Site) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"
    url = site.at("/large", stalling(head))
    assert refusal(url, site.settings(deadline_seconds=5)) == "too large"


def test_an_endless_body_is_cut_off(site: Site) -> None:
    assert refusal(site.at("/endless", endless), site.settings(max_body_bytes=10**6)) == "too large"


def test_headers_that_are_made_to_cost_time_are_not_read_to_their_end(site: Site) -> None:
    """Each lone carriage return is a line for the parser of e-mail, each line a part."""
    line = b"--a\r\rx\r" * 8000 + b"\r\n"
    kind = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/mixed; boundary=a\r\r"
    url = site.at("/headers", raw(kind + line * 80 + b"\r\n"))
    began = time.process_time()
    assert refusal(url, site.settings()) == "http error"
    assert time.process_time() - began < 1


def test_a_chunk_of_negative_length_is_not_read_without_limit(site: Site) -> None:
    """http.client takes -1 for all there is, and would hold all of it in memory."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n"
    url = site.at("/negative", dripping(head))
    assert refusal(url, site.settings(deadline_seconds=1)) == "http error"


def test_a_body_shorter_than_its_length_is_incomplete(site: Site) -> None:
    short = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc"
    assert refusal(site.at("/short", raw(short)), site.settings()) == "incomplete"


def test_a_chunked_body_without_its_end_is_incomplete(site: Site) -> None:
    short = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nabc"
    assert refusal(site.at("/short-chunk", raw(short)), site.settings()) == "incomplete"


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", lambda plain: zlib.compress(plain, wbits=-15)),
        ("gzip, deflate", lambda plain: zlib.compress(gzip.compress(plain))),
    ],
)
def test_a_compressed_body_is_unpacked(site: Site, name: str, pack) -> None:
    url = site.at("/packed", body(pack(b"abc" * 99), Content_Encoding=name))
    assert fetch(url, site.settings()) == b"abc" * 99


def test_a_small_body_that_unpacks_to_a_large_one_is_too_large(site: Site) -> None:
    url = site.at("/bomb", body(gzip.compress(bytes(10**7)), Content_Encoding="gzip"))
    assert refusal(url, site.settings(max_body_bytes=10**6)) == "too large"


def test_a_compressed_body_without_its_end_is_incomplete(site: Site) -> None:
    packed = gzip.compress(picture())[:-20]
    url = site.at("/half-packed", body(packed, Content_Encoding="gzip"))
    assert refusal(url, site.settings()) == "incomplete"


@pytest.fixture
def certificate(tmp_path: Path) -> str:
    path = tmp_path / "server.pem"
    path.write_text(_PEM)
    return str(path)


@pytest.fixture
def trusted(certificate: str, monkeypatch) -> Iterator[str]:
    """The certificate, among those that this process believes."""
    monkeypatch.setenv("SSL_CERT_FILE", certificate)
    authorities.cache_clear()
    yield certificate
    authorities.cache_clear()


def test_a_picture_arrives_over_tls(trusted: str) -> None:
    with serving(trusted) as secure:
        url = secure.at("/", body(b"x" * 200_000))
        assert fetch(url, secure.settings()) == b"x" * 200_000


def test_a_certificate_that_nobody_vouches_for_is_a_tls_failure(certificate: str) -> None:
    with serving(certificate) as secure:
        assert refusal(secure.at("/", body(b"x")), secure.settings()) == "tls"


def test_the_deadline_ends_an_answer_over_tls(trusted: str) -> None:
    with serving(trusted) as secure:
        url = secure.at("/", dripping(b"HTTP/1.1 200 OK\r\n\r\n"))
        assert refusal(url, secure.settings(deadline_seconds=0.5)) == "timeout"


def test_a_certificate_for_another_host_is_a_tls_failure(trusted: str) -> None:
    with serving(trusted) as secure:
        url = secure.at("/", body(b"x")).replace("127.0.0.1", "localhost")
        assert refusal(url, secure.settings(allow_hosts=["localhost"])) == "tls"


class _Plain(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.recv(1000)
        self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def test_an_answer_in_plain_text_is_a_tls_failure() -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), _Plain) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        host = f"127.0.0.1:{server.server_address[1]}"
        assert refusal(f"https://{host}/", DownloadSettings(allow_hosts=[host])) == "tls"
        thread.join(10)


def test_a_host_that_hangs_up_in_the_handshake_is_asked_again(trusted: str) -> None:
    """An overloaded host hangs up like this, or with a reset: it is the same failure."""
    asked: list[int] = []

    class HangsUp(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            asked.append(len(self.request.recv(10_000)))

    with socketserver.TCPServer(("127.0.0.1", 0), HangsUp) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        host = f"127.0.0.1:{server.server_address[1]}"
        settings = DownloadSettings(allow_hosts=[host], retries=1)
        assert refusal(f"https://{host}/", settings) == "connection"
        server.shutdown()
        thread.join(10)
    assert len(asked) == 2


def test_a_full_disk_is_not_taken_for_a_failure_of_the_host(site: Site, monkeypatch) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    monkeypatch.setattr(
        "pipeline.download.fetch.SpooledTemporaryFile", lambda _: full.open("r+b", buffering=0)
    )
    url = site.at("/full", body(bytes(2_000_000)))
    assert refusal(url, site.settings()) == "unexpected"


def test_a_refusal_is_told_although_its_page_never_comes(site: Site) -> None:
    """Its connection would have been kept for the next image."""
    page = stalling(b"HTTP/1.1 404 Not Found\r\nContent-Length: 100\r\n\r\n")
    urls = [site.at("/lost", page), site.at("/found", body(b"x"))]
    assert fetch_all(urls, site.settings(deadline_seconds=0.5)) == ["not found", b"x"]


def test_a_redirect_is_followed_although_its_page_never_comes(site: Site) -> None:
    page = stalling(b"HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 100\r\n\r\n")
    urls = [site.at("/moved", page), *(site.at(path, body(b"x")) for path in ("/there", "/other"))]
    assert fetch_all(urls, site.settings(deadline_seconds=3)) == [b"x"] * 3


def test_a_large_body_waits_on_the_disk(site: Site) -> None:
    image = bytes(range(256)) * 20_000
    with Fetcher(site.settings(), [site.at("/large-body", body(image))]) as fetcher:
        _, answer = fetcher.answer()
    assert not isinstance(answer, FetchError)
    assert answer.fileno() > 2  # a file in memory has no number
    assert answer.read() == image


def test_what_was_asked_of_the_network_is_counted(site: Site) -> None:
    urls = [
        site.at("/counted", staying(body(b"x" * 1000))),
        site.at("/counted-redirect", staying(status(302, Location="/counted"))),
        site.at("/counted-retry", in_turn(staying(status(503)), staying(body(b"y")))),
    ]
    with Fetcher(site.settings(retries=1), urls) as fetcher:
        for _ in urls:
            fetcher.answer()
    pace = fetcher.pace
    told = {name: pace[name] for name in ("requests", "connections", "retries", "redirects")}
    assert told == {"requests": 5, "connections": 2, "retries": 1, "redirects": 1}
    assert 2000 < pace["received_bytes"] < 3000
