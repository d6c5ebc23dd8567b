"""pipeline.ingest.links"""

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ingest.links import Link, Origin, as_columns, links_in, links_in_wat

_PAGE = "http://a.example/dir/page.html"


def _metadata(links: object, base: object = None) -> dict[str, Any]:
    page = {"Head": {} if base is None else {"Base": base}, "Links": links}
    envelope = {
        "WARC-Header-Metadata": {"WARC-Target-URI": _PAGE},
        "Payload-Metadata": {"HTTP-Response-Metadata": {"HTML-Metadata": page}},
    }
    return {"Envelope": envelope}


def _payload(links: object, base: object = None) -> bytes:
    return json.dumps(_metadata(links, base)).encode()


def _image(url: object = "x.jpg", **more: object) -> dict[str, object]:
    return {"path": "IMG@/src", "url": url, **more}


# -- one record ----------------------------------------------------------------------------


def test_links_are_relative_to_the_page_or_to_its_base() -> None:
    (from_page,) = links_in(_payload([_image()]))
    (from_base,) = links_in(_payload([_image()], base="/other/"))
    assert from_page == Link("http://a.example/dir/x.jpg", None, _PAGE)
    assert from_base.url == "http://a.example/other/x.jpg"


def test_a_picture_is_what_an_img_shows_and_nothing_else_it_names() -> None:
    shown = [_image("a"), {"path": "IMG@/data-src", "url": "b"}]
    other = [
        {"path": f"{tag}@/{attribute}", "url": "no"}
        for tag, attribute in (("A", "href"), ("IMG", "longdesc"), ("IMG", "data-href"))
    ]
    urls = [link.url for link in links_in(_payload([*other, *shown, {"url": "no"}]))]
    assert urls == ["http://a.example/dir/a", "http://a.example/dir/b"]


def test_a_title_stands_in_for_an_alt_that_says_nothing() -> None:
    links = [_image(title="t"), _image(alt="", title="t"), _image(alt="a", title="t")]
    assert [link.caption for link in links_in(_payload(links))] == ["t", "t", "a"]


def test_entities_in_an_address_are_read_and_look_alikes_are_not() -> None:
    (link,) = links_in(_payload([_image("/i?a=1&amp;b=2&copy=3&#x2f;c")], base="/?x&amp;y"))
    assert link.url == "http://a.example/i?a=1&b=2&copy=3/c"


def test_half_a_surrogate_pair_is_replaced() -> None:
    (link,) = links_in(_payload([_image("\ud83d.jpg", alt="cut \ud83d")]))
    assert (link.caption or "").encode() == "cut \ufffd".encode()


def test_bytes_that_are_no_text_are_replaced() -> None:
    (link,) = links_in(_payload([_image(alt="caf?")]).replace(b"caf?", b"caf\xe9"))
    assert link.caption == "caf\ufffd"


def test_what_lies_beside_the_links_may_be_anything() -> None:
    metadata = _metadata([_image(alt="a")])
    for odd in ('{"a": NaN}', "9" * 400, '"\\ud83d"', "1e999", "[" * 300 + "]" * 300):
        payload = json.dumps(metadata)[:-1] + f', "Container": {odd}}}'
        assert [link.caption for link in links_in(payload.encode())] == ["a"], odd


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b"[]",
        b'{"Envelope": null}',
        b'{"Envelope": {"WARC-Header-Metadata": {}}}',
        _payload([_image()])[:-1],
        _payload([_image()])
        .replace(b'{"WARC-Target', b'[{"WARC-Target')
        .replace(b'"}, "', b'"}], "'),
        _payload("IMG@/src"),
        b"[" * 100_000,
        b'{"Envelope":' * 100_000,
    ],
)
def test_a_record_of_another_shape_is_unreadable(payload: bytes) -> None:
    assert [link.reason for link in links_in(payload)] == ["unreadable record"]


def test_a_page_without_links_is_no_mistake() -> None:
    assert links_in(_payload(None)) == links_in(_payload([])) == []
    no_page = {"WARC-Header-Metadata": {"WARC-Target-URI": _PAGE}, "Payload-Metadata": {}}
    assert links_in(json.dumps({"Envelope": no_page}).encode()) == []


def test_a_field_of_another_type_costs_one_link_and_leaves_a_reason() -> None:
    links = [_image(alt=5), _image(7, alt="a"), 3, None, {"path": 1}, _image(alt="whole")]
    told = [(link.url and "url", link.caption, link.reason) for link in links_in(_payload(links))]
    unreadable = (None, None, "unreadable link")
    assert told == [
        ("url", None, None),
        (None, "a", None),
        ("url", "whole", None),
        *[unreadable] * 3,
    ]


@pytest.mark.parametrize("more", [b"", b', "Container": NaN}'])
def test_images_of_a_page_beyond_the_limit_are_counted(more: bytes) -> None:
    payload = _payload([_image(alt="a")] * 5003)
    links = links_in(payload[:-1] + more if more else payload)
    assert Counter(link.reason for link in links) == {None: 5000, "too many images": 3}


_LINK = st.fixed_dictionaries(
    {"path": st.sampled_from(["IMG@/src", "IMG@/data-src", "A@/href", None])},
    optional={
        "url": st.none() | st.text(alphabet="a/.:?#&;amp \t%"),
        "alt": st.none() | st.text(st.characters(codec="utf-8")),
        "title": st.none() | st.text(st.characters(codec="utf-8")),
        "more": st.none() | st.integers(),
    },
)


@given(
    st.lists(_LINK), st.none() | st.sampled_from(["/b/", "http://b.example/?q", "::", "http://["])
)
def test_the_quick_way_reads_what_the_thorough_one_reads(
    links: list[Any], base: str | None
) -> None:
    payload = _payload(links, base)
    only_thorough = payload[:-1] + b', "Container": NaN}'
    assert links_in(payload) == links_in(only_thorough)


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.just(_image()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.binary() | st.builds(_payload, _JSON, _JSON) | st.builds(_payload, st.lists(_JSON)))
def test_no_payload_stops_the_parser(payload: bytes) -> None:
    for link in links_in(payload):
        assert link.reason is not None or link.page_url == _PAGE


def test_an_endless_base_is_not_repeated_in_every_link() -> None:
    base = "http://a.example/" + "x" * 100_000 + "/"
    (link,) = links_in(_payload([_image()], base))
    assert link.url == "http://a.example/dir/x.jpg"


# -- addresses -----------------------------------------------------------------------------


@given(
    st.sampled_from(
        [_PAGE, "https://b.example", "http://c.example/?q=/x", "http://d.example/a/../b"]
    ),
    st.from_regex(
        r"(https?://|//|/|\./|\.\./|)[a-z0-9._%~&=+-]{1,6}(/[a-z.:]{1,4}){0,3}", fullmatch=True
    ),
)
def test_an_address_is_resolved_as_the_standard_says(page: str, url: str) -> None:
    assert Origin(page, None).resolve(url) == urljoin(page, url)


@pytest.mark.parametrize(
    ("url", "resolved"),
    [
        (" x.jpg\n", "http://a.example/dir/x.jpg"),
        ("x\n.j\tpg", "http://a.example/dir/x.jpg"),
        ("http://b.example/a\nb", "http://b.example/ab"),
        ("?q", "http://a.example/dir/page.html?q"),
        ("//b.example/x", "http://b.example/x"),
        ("data:image/gif;base64,AA", "data:image/gif;base64,AA"),
        ("http://[", "http://["),
        ("é ü.jpg", "http://a.example/dir/é ü.jpg"),
    ],
)
def test_odd_addresses_are_resolved_as_browsers_do(url: str, resolved: str) -> None:
    assert Origin(_PAGE, None).resolve(url) == resolved


@given(st.text(), st.none() | st.text(), st.text())
def test_no_address_stops_the_resolver(page: str, base: str | None, url: str) -> None:
    Origin(page, base).resolve(url)


def test_long_links_travel_in_small_company() -> None:
    links = [Link("u", "x" * 1_000_000, None)] * 100 + [Link("u", "c", None)] * 5000
    sizes = [len(urls) for urls, *_ in as_columns(links)]
    assert sum(sizes) == 5100
    assert max(sizes) == 4096
    assert max(sizes[:10]) < 12


# -- files ---------------------------------------------------------------------------------


def _record(payload: bytes, more: str = "") -> bytes:
    head = f"WARC/1.0\r\nWARC-Type: metadata\r\n{more}Content-Length: {len(payload)}\r\n\r\n"
    return head.encode() + payload + b"\r\n\r\n"


def test_every_page_of_a_wat_is_read_around_what_is_broken(tmp_path: Path) -> None:
    records = [_record(_payload([_image(alt=alt)])) for alt in "abc"]
    members = [gzip.compress(r) for r in [*records[:1], _record(b"{}"), *records[1:]]]
    members[2] = members[2][:-20]
    path = tmp_path / "x.wat.gz"
    path.write_bytes(b"".join(members))
    told = [link.reason or link.caption for link in links_in_wat(str(path))]
    assert [told[0], told[1], told[-1]] == ["a", "unreadable record", "c"]
    assert "unreadable file" in told
