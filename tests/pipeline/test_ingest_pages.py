"""pipeline.ingest.pages"""

import gzip
import html
import os
import zlib
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.ingest import pages
from pipeline.ingest.archives import Record, records_in
from pipeline.ingest.links import Link
from pipeline.ingest.pages import links_in_page, links_in_warc, links_of, text_of

_PAGE = "http://a.example/dir/page.html"
_IMAGE = b"<img src=x.jpg alt='a red circle'>"
_LINK = Link("http://a.example/dir/x.jpg", "a red circle", _PAGE)


def _urls(page: str) -> list[str | None]:
    return [link.url for link in links_in_page(page.encode(), "http://a.example/d/")]


def _captions(page: str) -> list[str | None]:
    return [link.caption for link in links_in_page(page.encode(), _PAGE)]


# -- HTML ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "url"),
    [
        ("<img src=x>", "http://a.example/d/x"),
        ("<IMG SRC = ' /x ' >", "http://a.example/x"),
        ("<image src=//b.example/x>", "http://b.example/x"),
        ("<img src=x?a=1&amp;b=2&copy=3>", "http://a.example/d/x?a=1&b=2&copy=3"),
        ("<img src=spacer.gif data-src=x>", "http://a.example/d/x"),
        ("<img src=data:image/gif;base64,AA data-original=x>", "http://a.example/d/x"),
        ("<img data-lazy-src=x data-src='' src=y>", "http://a.example/d/x"),
        ("<img src=x srcset='y 2x'>", "http://a.example/d/x"),
        ("<img src='data:,' srcset='x 1x, y 2x'>", "http://a.example/d/y"),
        ("<img data-srcset='x 100w, y 200w'>", "http://a.example/d/y"),
        (
            "<picture><source srcset='x 1x'><source srcset='y 2x'><img></picture>",
            "http://a.example/d/y",
        ),
        ("<picture><source srcset=x></picture><video><source srcset=y></video><img>", None),
        ("<img src='data:,AA'>", "data:,AA"),
        ("<img>", None),
    ],
)
def test_an_image_is_where_its_page_will_show_it_from(image: str, url: str | None) -> None:
    assert _urls(image) == [url]


def test_what_is_no_element_of_the_page_is_no_image() -> None:
    no = "<img src=no>"
    assert not _urls(
        f"<!-- {no} --><script>'{no}'</script><style>{no}</style><textarea>{no}</textarea>"
        f"<title>{no}</title><iframe>{no}</iframe><xmp>{no}</xmp><a title='{no}'></a>"
        "<svg><image href=no /></svg>"
    )
    assert _urls("<noscript><img src=x></noscript>") == ["http://a.example/d/x"]


def test_the_first_base_with_an_address_counts_for_the_whole_page() -> None:
    page = "<img src=x><base target=_top><base href='/b/'><base href='/c/'><img src=y>"
    assert _urls(page) == ["http://a.example/b/x", "http://a.example/b/y"]


def test_a_caption_is_the_alt_or_else_the_title_with_entities_read_once() -> None:
    page = "<img alt='&amp;amp; &eacute; &#8364;'><img alt='' title=t><img title=t alt=a>"
    assert _captions(page) == ["&amp; é €", "t", "a"]


@pytest.mark.parametrize("more", ["<div>", "<b><p>", "<div></p>", "<b>\n</i>"])
def test_nesting_without_end_hides_no_image(more: str) -> None:
    page = "".join(more * 700 + f"<img src={n} alt='{n} é'>" for n in range(99))
    assert _urls(page) == [f"http://a.example/d/{n}" for n in range(99)]
    assert _captions(page) == [f"{n} é" for n in range(99)]


def test_what_closes_nothing_is_not_looked_for_among_all_that_is_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    depths: list[int] = []
    end = pages._Images.end

    def noted(self: pages._Images, tag: str) -> None:
        depths.append(self.depth)
        end(self, tag)

    monkeypatch.setattr(pages._Images, "end", noted)
    assert links_in_page(b"<div>" * 100_000 + b"</p><img>" * 1000, _PAGE)
    assert max(depths) < 3000


@pytest.mark.parametrize("text", ["é", "日本", "🎉", "&eacute;"])
def test_a_page_in_many_bites_is_read_as_one(text: str) -> None:
    page = "<meta charset=latin1>" + "".join(
        f"<p title='{text * n}'><img src={n} alt='{text * n}'></p>" for n in range(1, 400)
    )
    alts = [html.unescape(text * n) for n in range(1, 400)]
    links = links_in_page(page.encode(), _PAGE, "text/html; charset=utf-8")
    assert [link.caption for link in links] == alts


def test_the_sources_of_a_picture_are_of_its_first_image() -> None:
    page = "<picture><source srcset='x 1x'><img><img><img src=y></picture>"
    assert _urls(page) == ["http://a.example/d/x", None, "http://a.example/d/y"]


def test_images_beyond_the_limit_are_counted() -> None:
    links = links_in_page(b"<img src=x alt=y>" * 5010, _PAGE)
    assert Counter(link.reason for link in links) == {None: 5000, "too many images": 10}


_PIECES = st.sampled_from(
    [
        *"<>/='\"!-& \0é\ud7ff",
        *("img", "<img src=", " alt=", "<base href=", "<picture>", "<source ", "srcset="),
        *("<!--", "-->", "<script>", "</script>", "&#xd800;", "&#0;", "<table><td>", "x"),
    ]
)


@settings(max_examples=300)
@given(st.binary() | st.lists(_PIECES).map(lambda pieces: "".join(pieces).encode()), st.text())
def test_no_page_stops_the_parser(page: bytes, url: str) -> None:
    for link in links_in_page(page, url):
        (link.url or "").encode()
        (link.caption or "").encode()


# -- charset -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "header", "text"),
    [
        ("é".encode(), "", "é"),
        (b"\xe9 and more", "", "é and more"),
        ("é".encode(), "text/html; charset=ISO-8859-1", "Ã©"),
        (b"\x80", 'text/html; charset="iso-8859-1"', "€"),
        ("é".encode("utf-8-sig"), "text/html; charset=latin1", "é"),
        ("日本".encode("utf-16"), "", "日本"),
        ("日本".encode("shift_jis"), "text/html;charset=Shift_JIS", "日本"),
        ("中".encode("gbk"), "text/html; charset=gb2312", "中"),
        (b"caf\xc3", "", "caf\ufffd"),
        (b"x\xff", "text/html; charset=utf-8", "x\ufffd"),
        ("é".encode(), "text/html; charset=zip", "é"),
        ("é".encode(), "text/html; charset=unicode_escape", "é"),
    ],
)
def test_a_page_is_read_in_its_encoding(body: bytes, header: str, text: str) -> None:
    assert text_of(body, header) == text


def test_a_page_may_tell_its_encoding_itself_outside_of_comments() -> None:
    page = '<!-- <meta charset=big5> --><meta http-equiv=x content="text/html; charset=koi8-r">'
    assert text_of(f"{page}привет".encode("koi8-r"), "").endswith("привет")
    assert text_of(f"<meta charset='utf-16'>{'é'}".encode(), "").endswith("é")


# -- HTTP ----------------------------------------------------------------------------------


def _response(body: bytes, *headers: str, kind: str = "text/html") -> Record:
    lines = ["HTTP/1.1 200 OK", f"Content-Type: {kind}" if kind else "X: y", *headers, "", ""]
    block = "\r\n".join(lines).encode() + body
    head = f"WARC-Target-URI: {_PAGE}\r\nContent-Type: application/http; msgtype=response\r\n"
    return Record("response", head.encode(), block, len(block), False)


def _chunked(body: bytes) -> bytes:
    chunks = [body[at : at + 7] for at in range(0, len(body), 7)]
    return b"".join(b"%x;x=y\r\n%b\r\n" % (len(c), c) for c in chunks) + b"0\r\n\r\n"


def _raw_deflated(body: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflate.compress(body) + deflate.flush()


def _brotli(body: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "brotli") as stream:
        stream.write(body)
    return bytes(sink.getvalue())


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (_IMAGE, []),
        (_chunked(_IMAGE), ["Transfer-Encoding: chunked"]),
        (_chunked(gzip.compress(_IMAGE)), ["Transfer-Encoding: Chunked", "Content-Encoding: gzip"]),
        (zlib.compress(_IMAGE), ["Content-Encoding: deflate"]),
        (_raw_deflated(_IMAGE), ["Content-Encoding: deflate"]),
        (_brotli(_IMAGE), ["content-encoding: br"]),
        (gzip.compress(_brotli(_IMAGE)), ["Content-Encoding: br, x-gzip"]),
        # Stored as it was unpacked, under the headers of what was sent.
        (_IMAGE, ["Transfer-Encoding: chunked", "Content-Encoding: gzip"]),
        (_IMAGE, ["Content-Encoding: br"]),
        (_IMAGE, ["Content-Encoding: deflate"]),
        (_IMAGE, ["Content-Encoding: none"]),
    ],
)
def test_a_body_is_unpacked_as_its_headers_say(body: bytes, headers: list[str]) -> None:
    assert links_of(_response(body, *headers)) == [_LINK]


@pytest.mark.parametrize(
    ("kind", "body", "is_page"),
    [
        ("TEXT/HTML; charset=utf-8", _IMAGE, True),
        ("application/xhtml+xml", _IMAGE, True),
        ("", b"\n<!DOCTYPE html>" + _IMAGE, True),
        ("", _IMAGE, False),
        ("image/jpeg", _IMAGE, False),
        ("text/plain", b"<html>" + _IMAGE, False),
    ],
)
def test_only_html_is_a_page(kind: str, body: bytes, is_page: bool) -> None:
    assert links_of(_response(body, kind=kind)) == [_LINK] * is_page


def test_of_a_body_that_breaks_off_the_images_before_are_read_and_the_break_is_told() -> None:
    many = b"".join(b"<img src=%d alt=%d>" % (n, n * n) for n in range(2000))
    for body, header in (
        (_chunked(many)[:-900], "Transfer-Encoding: chunked"),
        (gzip.compress(many)[:-900], "Content-Encoding: gzip"),
        (_brotli(many)[:-900], "Content-Encoding: br"),
    ):
        links = links_of(_response(body, header))
        told = Counter(link.reason for link in links)
        assert told[None] > 500, header
        assert told["unreadable record"] == 1, header


def test_a_body_that_unpacks_without_end_is_cut_and_told() -> None:
    bomb = gzip.compress(b"<p>" + b" " * 50_000_000 + _IMAGE)
    links = links_of(_response(_IMAGE * 0 + bomb, "Content-Encoding: gzip"))
    assert [link.reason for link in links] == ["page too long"]


def test_a_response_without_an_end_of_headers_is_unreadable() -> None:
    record = _response(b"")._replace(block=b"HTTP/1.1 200 OK\r\nX: y")
    assert [link.reason for link in links_of(record)] == ["unreadable record"]


@given(st.binary(), st.sampled_from(["gzip", "br", "deflate", "zstd", "x-gzip, br"]), st.binary())
def test_no_response_stops_the_reader(body: bytes, packing: str, block: bytes) -> None:
    links_of(_response(body, f"Content-Encoding: {packing}", "Transfer-Encoding: chunked"))
    links_of(_response(b"", kind="")._replace(block=block))


# -- files ---------------------------------------------------------------------------------


def _record(kind: str, block: bytes, content: str) -> bytes:
    head = [
        *(
            "WARC/1.0",
            f"WARC-Type: {kind}",
            f"WARC-Target-URI: {_PAGE}",
            f"Content-Type: {content}",
        ),
        *(f"Content-Length: {len(block)}", "", ""),
    ]
    return "\r\n".join(head).encode() + block + b"\r\n\r\n"


def test_pages_are_responses_and_resources_of_a_warc(tmp_path: Path) -> None:
    block = _response(_IMAGE).block
    records = [
        _record("warcinfo", b"x: y", "application/warc-fields"),
        _record("request", b"GET / HTTP/1.1\r\n\r\n", "application/http"),
        _record("response", block, "application/http; msgtype=response"),
        _record("revisit", block[:-50], "application/http"),
        _record("resource", _IMAGE, "text/html"),
        _record("resource", _IMAGE, "image/png"),
        _record("response", b"20240501 a.example A 10.0.0.1", "text/dns"),
    ]
    path = tmp_path / "x.warc.gz"
    path.write_bytes(b"".join(map(gzip.compress, records)))
    assert list(links_in_warc(str(path))) == [_LINK, _LINK]


def test_real_warcs_are_read(tmp_path: Path) -> None:
    folder = Path(os.environ.get("WIT_DATA", "")) / "warc"
    if not (folder / "aut-example.warc.gz").exists():
        pytest.skip("no WARC files: set WIT_DATA to a folder with warc/ in it")

    def told(name: str) -> Counter[str | None]:
        return Counter(link.reason for link in links_in_warc(str(folder / name)))

    assert told("aut-example.warc.gz") == {None: 858}
    assert told("resiliparse-warcfile.warc.gz") == {None: 153}
    assert told("resiliparse-clipped.warc.gz") == {
        None: 7,
        "unreadable record": 1,
        "unreadable file": 1,
    }
    # The page that is cut shows its images up to the cut.
    path = str(folder / "resiliparse-clipped.warc.gz")
    assert any(r is not None and r.is_cut for r in records_in(path, {"response"}, 1 << 20))
