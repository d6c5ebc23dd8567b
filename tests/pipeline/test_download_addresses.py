"""Addresses: which URL and which machine may be asked, and how."""

import re
from collections.abc import Iterator

import pytest
from download_site import (
    Site,
    body,
    fetch,
    picture,
    raw,
    refusal,
    serving,
    status,
)
from hypothesis import given
from hypothesis import settings as rules
from hypothesis import strategies as st

from pipeline.download.addresses import is_public, parse
from pipeline.download.reasons import FetchError
from pipeline.settings import DownloadSettings


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serving() as site:
        yield site


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "168.63.129.16",
        "172.16.0.1",
        "192.0.0.192",
        "192.0.2.1",
        "192.168.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "240.0.0.1",
        "0.0.0.0",  # noqa: S104
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:10.0.0.1",
        "::127.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b::192.0.0.192",
        "2002:a00:1::",
        "2001:db8::1",
        "fc00::1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "not an address",
    ],
)
def test_an_address_that_is_not_of_the_public_internet_is_refused(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "64:ff9b::1.1.1.1"])
def test_an_address_of_the_public_internet_is_taken(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]"])
def test_loopback_is_refused_however_it_is_written(site: Site, host: str) -> None:
    site.at("/guarded", body(picture()))
    port = site.host.split(":")[1]
    settings = site.settings(allow_hosts=[])
    assert refusal(f"http://{host}:{port}/guarded", settings) in ("forbidden address", "dns")
    assert site.asked["/guarded"] == 0


def test_a_redirect_to_a_forbidden_address_is_not_followed(site: Site) -> None:
    with serving() as other:
        target = other.at("/secret", body(picture()))
        url = site.at("/outward", status(302, Location=target))
        assert refusal(url, site.settings()) == "forbidden address"
        assert other.asked["/secret"] == 0


def test_one_forbidden_address_among_good_ones_is_enough(monkeypatch) -> None:
    answers = [(0, 0, 0, "", (address, 0)) for address in ("1.1.1.1", "10.0.0.1")]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: answers)
    assert refusal("http://images.example/", DownloadSettings()) == "forbidden address"


def test_the_address_that_was_checked_is_the_one_connected_to(site: Site, monkeypatch) -> None:
    """A name server that changes its mind after the check is asked no second time."""
    asked: list[str] = []

    def getaddrinfo(host: str, *_: object, **__: object):
        asked.append(host)
        return [(0, 0, 0, "", ("127.0.0.1", 0))]

    monkeypatch.setattr("socket.getaddrinfo", getaddrinfo)
    port = site.host.split(":")[1]
    site.at("/named", body(b"x"))
    settings = site.settings(allow_hosts=["images.example"])
    assert fetch(f"http://images.example:{port}/named", settings) == b"x"
    assert asked == ["images.example"]


@pytest.mark.parametrize(
    "url",
    [
        "file:///tmp/x.jpg",
        "data:image/png;base64,AAAA",
        "ftp://example.org/x.jpg",
        "//example.org/x.jpg",
        "http://",
        "http://user@example.org/",
        "http://example.org:0/",
        "http://example.org:99999/",
        "http://[::1/",
        "http://[fe80::1%€]/",
        "http://[2606:4700::1111%a b]/",
        "http://a b.example.org/",
        "http://a..example.org/",
        "",
    ],
)
def test_a_url_that_is_not_of_the_web_is_refused(url: str) -> None:
    assert refusal(url, DownloadSettings()) == "bad url"


def test_a_redirect_out_of_the_web_is_refused(site: Site) -> None:
    url = site.at("/to-file", status(302, Location="file:///tmp/x.jpg"))
    assert refusal(url, site.settings()) == "bad url"


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("http://h/a b.jpg", "/a%20b.jpg"),
        ("http://h/ä.jpg", "/%C3%A4.jpg"),
        ("http://h/%C3%A4%20.jpg", "/%C3%A4%20.jpg"),
        ("http://h/x?q=ö y&r=1#part", "/x?q=%C3%B6%20y&r=1"),
        ("http://h\\x\\y", "/x/y"),
        (" \thttp://h/x\n", "/x"),
        ("http://h", "/"),
        ("http://h?q", "/?q"),
    ],
)
def test_a_url_is_quoted_as_browsers_do(url: str, sent: str) -> None:
    assert parse(url).path == sent


def test_a_host_in_another_script_is_asked_for_by_its_ascii_name() -> None:
    assert parse("http://Bücher.example/").authority == "xn--bcher-kva.example"


def test_spaces_in_a_redirect_are_quoted(site: Site) -> None:
    site.at("/a%20%C3%A4", body(b"x"))
    url = site.at("/to-spaces", raw("HTTP/1.1 302 F\r\nLocation: /a ä\r\n\r\n".encode()))
    assert fetch(url, site.settings()) == b"x"


def test_a_redirect_loop_ends(site: Site) -> None:
    url = site.at("/loop", status(302, Location="/loop"))
    assert refusal(url, site.settings(max_redirects=3)) == "too many redirects"
    assert site.asked["/loop"] == 4


@pytest.mark.parametrize("port", [22, 25, 6000, 6667])
def test_a_port_that_browsers_block_is_not_asked(port: int) -> None:
    assert refusal(f"http://example.org:{port}/x.jpg", DownloadSettings()) == "bad url"


@given(
    st.one_of(
        st.text(),
        st.builds("http{}://{}{}".format, st.sampled_from(["", "s"]), st.text(), st.text()),
        st.builds("http://example.org/{}?{}#{}".format, st.text(), st.text(), st.text()),
        st.builds("http://{}:{}@h:{}/".format, st.text(), st.text(), st.integers()),
    )
)
@rules(deadline=None)
def test_no_url_writes_into_the_request(url: str) -> None:
    """Whatever it holds, it is refused, or it is one word of printable ASCII in a header."""
    try:
        target = parse(url)
    except FetchError:
        return
    for word in (target.path, target.authority):
        assert re.fullmatch(r"[!-~]+", word)
    assert target.path.startswith("/")
    assert 0 < target.port < 65536
    assert parse(target.url) == target
