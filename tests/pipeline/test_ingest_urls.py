"""pipeline.ingest.urls"""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.ingest.urls import (
    REASONS,
    all_without_tracking,
    clean_host,
    clean_url,
    clean_urls,
    without_tracking,
)

_BEGINS = ["http://", "HTTPS:\\\\", "https://a.example", "a.example", "A.Example"]
_HOSTS = ["münchen.example", "[::1]", "a" * 70, ":80", ":443", ":08080", ":0", "@"]
_MARKS = ["/", "?", "#", "&", "=", ".", "..", "%2e", "\\", " ", "\t", "é", "'", '"', "^"]
_ENDS = ["x.jpg", "utm_source=x", "FBCLID=1", "gclid"]
_PARTS = st.sampled_from([*_BEGINS, *_HOSTS, *_MARKS, *_ENDS])
_URLS = st.none() | st.text() | st.lists(_PARTS, max_size=8).map("".join)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (None, "no url"),
        (" \x00\n", "no url"),
        ("#top", "no url"),
        ("data:image/png;base64,AAAA", "not http"),
        ("blob:https://a.example/1", "not http"),
        ("javascript:void(0)", "not http"),
        ("file:///etc/passwd", "not http"),
        ("ftp://a.example/x.jpg", "not http"),
        ("/img/x.jpg", "not http"),
        ("http:///x.jpg", "bad url"),
        ("http:/a.example/x.jpg", "bad url"),
        ("http://[::1", "bad url"),
        ("http://[fe80::1%25eth0]/", "bad url"),
        ("http://a b/", "bad url"),
        ("http://a..example/", "bad url"),
        ("http://a%41.example/", "bad url"),
        ("http://a.example:0/", "bad url"),
        ("http://a.example:65536/", "bad url"),
        ("http://a.example:" + "9" * 5000 + "/", "url too long"),
        ("http://" + "a" * 64 + ".example/", "bad url"),
        ("http://" + "é" * 70 + ".example/", "bad url"),
        ("http://me:secret@a.example/x.jpg", "user name in url"),
        ("http://a.example/" + "x" * 3000, "url too long"),
        ("http://a.example/" + "é" * 400, "url too long"),
    ],
)
def test_an_address_that_cannot_be_fetched_is_dropped_with_its_reason(
    url: str | None, reason: str
) -> None:
    assert clean_url(url, 2000) == ("", reason)


@pytest.mark.parametrize(
    ("url", "clean"),
    [
        ("HTTP://A.Example/X#top", "http://a.example/X"),
        ("http://a.example", "http://a.example/"),
        ("http://a.example?x=1", "http://a.example/?x=1"),
        ("http://a.example/x?", "http://a.example/x"),
        (" \thttp://a.exa\nmple/x y.jpg\x00", "http://a.example/x%20y.jpg"),
        ("https:\\\\a.example\\b\\c.jpg?d\\e", "https://a.example/b/c.jpg?d\\e"),
        ("http://a.example:80/x", "http://a.example/x"),
        ("http://a.example:/x", "http://a.example/x"),
        ("https://a.example:00443/x", "https://a.example/x"),
        ("https://a.example:80/x", "https://a.example:80/x"),
        ("http://a.example/b/../c/./d/%2E%2e/e", "http://a.example/c/e"),
        ("http://a.example/../..", "http://a.example/"),
        ("http://a.example/b/..", "http://a.example/"),
        ("http://a.example/b/.", "http://a.example/b/"),
        ("http://a.example/é?ü='", "http://a.example/%C3%A9?%C3%BC=%27"),
        ("http://a.example/100%?a%", "http://a.example/100%?a%"),
        ("http://[2001:DB8:0::1]:8080/x", "http://[2001:db8::1]:8080/x"),
        ("http://Bücher.example/", "http://xn--bcher-kva.example/"),
        ("http://faß.example/", "http://xn--fa-hia.example/"),
        ("http://a。example/", "http://a.example/"),
    ],
)
def test_an_address_is_written_as_browsers_do(url: str, clean: str) -> None:
    assert clean_url(url, 2000) == (clean, None)


@given(_URLS)
def test_cleaning_a_clean_address_changes_nothing(url: str | None) -> None:
    clean, reason = clean_url(url, 200)
    if reason is None:
        assert clean_url(clean, 200) == (clean, None)
        assert clean.isascii()


@settings(deadline=None)  # the first call compiles its expressions
@given(st.lists(_URLS))
def test_a_batch_of_addresses_is_cleaned_as_each_of_them(urls: list[str | None]) -> None:
    readable = [url if url is None else url.encode(errors="replace").decode() for url in urls]
    found, reasons = clean_urls(pa.array(readable, pa.string()), 100)
    told = [REASONS[place - 1] if place else None for place in reasons]
    kept = [url if why is None else "" for url, why in zip(found.to_pylist(), told, strict=True)]
    assert list(zip(kept, told, strict=True)) == [clean_url(url, 100) for url in readable]


def test_a_megabyte_of_address_is_read_once() -> None:
    for url in ("data:" + "A" * 10**6, "http://" + "a." * 500_000, "http://a/" + "../" * 300_000):
        assert clean_url(url, 2000)[1] in ("not http", "bad url", "url too long")


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://a/x?utm_source=b&id=1", "http://a/x?id=1"),
        ("http://a/x?id=1&UTM_Medium=c", "http://a/x?id=1"),
        ("http://a/x?fbclid=b&gclid", "http://a/x"),
        ("http://a/x?utmost=1&id_fbclid=2&gclids=3", "http://a/x?utmost=1&id_fbclid=2&gclids=3"),
        ("http://a/utm_source=1", "http://a/utm_source=1"),
        ("http://a/x?a=&&b", "http://a/x?a=&&b"),
        ("http://a/x?ref=1&refs=2", "http://a/x?refs=2"),
    ],
)
def test_parameters_that_only_track_are_left_out(url: str, address: str) -> None:
    assert without_tracking(url, ["ref"]) == address


@settings(deadline=None)  # the first call compiles its expressions
@given(st.lists(_URLS))
def test_a_batch_is_freed_of_tracking_as_each_address(urls: list[str | None]) -> None:
    clean = [found for found, reason in (clean_url(url, 200) for url in urls) if reason is None]
    found = all_without_tracking(pa.array(clean, pa.string()), ["a*"]).to_pylist()
    assert found == [without_tracking(url, ["a*"]) for url in clean]


@given(st.text())
def test_a_host_is_ascii_or_none(host: str) -> None:
    found = clean_host(host)
    assert found is None or (found.isascii() and clean_host(found) == found)
