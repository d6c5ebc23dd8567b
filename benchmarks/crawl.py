"""Crawl: WAT records to links, beside warcio and json; pages and tables to links, alone.

The WAT file is laid out as Common Crawl's: a gzip member for each record, of about 60 links and 20
images, with the headers and metadata that lie around them. Rates are of one core: CPU seconds of
one process, without Spark.
"""

import csv
import gzip
import importlib.metadata
import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pyarrow as pa
import pyarrow.parquet as pq
from warcio.archiveiterator import ArchiveIterator

from benchmarks.form import Figure, alternate, publish
from pipeline.ingest.columns import layout_of
from pipeline.ingest.links import Link, links_in_wat
from pipeline.ingest.pages import links_in_warc
from pipeline.ingest.rows import Part, batches_in
from pipeline.settings import TableSource

_PAGES = 4000
_ROWS = 200_000
_ROUNDS = 5
_PEER = f"warcio {importlib.metadata.version('warcio')}, json, urljoin"
_CANDIDATES = 10e9
"""Links with a caption, as LAION and DataComp drew them from all of Common Crawl."""
_WORDS = """
    a the of red blue old new bright small wooden house garden river street mountain sunset photo
    picture view man woman child dog cat bird car train boat holding standing over under near with
    café Straße naïve 東京 москва 2021 buy sale best price review news today & <b> " 'quoted'
"""


def main() -> None:
    """Measure and publish."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        rng = random.Random(7)
        sites = [_site(number, rng) for number in range(_PAGES)]
        wat, warc = folder / "x.wat.gz", folder / "x.warc.gz"
        wat.write_bytes(b"".join(_member("metadata", s["url"], _metadata(s, rng)) for s in sites))
        warc.write_bytes(b"".join(_member("response", s["url"], _response(s)) for s in sites))
        figures = [*_crawls(wat, warc, sites), *_tables(folder, rng)]
    publish("crawl", [*figures, *_candidates(figures)])


def _crawls(wat: Path, warc: Path, sites: list[dict[str, Any]]) -> list[Figure]:
    ours, theirs = list(links_in_wat(str(wat))), _peer(wat)
    assert ours == theirs, "the two find different links"
    from_html = list(links_in_warc(str(warc)))
    assert len(from_html) == len(ours), "WARC and WAT show different images"
    with_caption = sum(bool(link.caption) for link in ours)
    seconds = alternate(
        {
            "wat": lambda: _drain(links_in_wat(str(wat))),
            "peer": lambda: _peer(wat),
            "warc": lambda: _drain(links_in_warc(str(warc))),
        },
        rounds=_ROUNDS,
    )
    pages = len(sites)
    return [
        Figure(
            "WAT to links",
            pages / seconds["wat"],
            "pages/s",
            pages / seconds["peer"],
            _PEER,
            goal=1.5,
        ),
        Figure("WAT to links with a caption", with_caption / seconds["wat"], "links/s"),
        Figure("WARC to links", pages / seconds["warc"], "pages/s"),
        Figure("WARC to links with a caption", with_caption / seconds["warc"], "links/s"),
    ]


def _drain(links: Any) -> None:
    for _ in links:
        pass


def _peer(path: Path) -> list[Link]:
    """The same links as one would write it: warcio, json, urljoin."""
    found: list[Link] = []
    with path.open("rb") as stream:
        for record in ArchiveIterator(stream):
            if record.rec_type != "metadata":
                continue
            envelope = json.loads(record.content_stream().read())["Envelope"]
            page_url = envelope["WARC-Header-Metadata"]["WARC-Target-URI"]
            response = envelope["Payload-Metadata"].get("HTTP-Response-Metadata", {})
            page = response.get("HTML-Metadata", {})
            base = urljoin(page_url, page.get("Head", {}).get("Base", ""))
            for link in page.get("Links", []):
                if link["path"] == "IMG@/src":
                    caption = link.get("alt") or link.get("title")
                    found.append(Link(urljoin(base, link["url"]), caption, page_url))
    return found


def _tables(folder: Path, rng: random.Random) -> list[Figure]:
    urls = [f"https://cdn-{n % 97}.example/photos/2021/{n:x}.jpg" for n in range(_ROWS)]
    captions = [_words(rng, 12) for _ in range(_ROWS)]
    pq.write_table(pa.table({"url": urls, "caption": captions}), folder / "x.parquet")
    with (folder / "x.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["url", "caption"], *zip(urls, captions, strict=True)])
    rows = [f"{url}\t{caption}\n" for url, caption in zip(urls, captions, strict=True)]
    (folder / "x.tsv").write_text("".join(rows), encoding="utf-8")
    objects = [json.dumps({"url": u, "caption": c}) for u, c in zip(urls, captions, strict=True)]
    (folder / "x.jsonl").write_text("\n".join(objects), encoding="utf-8")
    readers: dict[str, Callable[[], object]] = {}
    for form in ("parquet", "csv", "tsv", "jsonl"):
        part = _part(folder / f"x.{form}")
        assert _read(part) == _ROWS, f"{form} has other rows"
        readers[form] = lambda part=part: _read(part)
    seconds = alternate(readers, rounds=_ROUNDS)
    return [Figure(f"{form} to links", _ROWS / spent, "rows/s") for form, spent in seconds.items()]


def _part(path: Path) -> Part:
    layout = layout_of(path, TableSource(path=str(path)))
    assert layout is not None
    groups = pq.read_metadata(path).num_row_groups if layout.form == "parquet" else -1
    return Part(str(path), layout, 0, groups)


def _read(part: Part) -> int:
    return sum(len(pa.array(columns[0], pa.string())) for columns in batches_in(part))


def _candidates(figures: list[Figure]) -> list[Figure]:
    rate = {figure.figure: figure.ours for figure in figures}
    sources = ("WAT to links with a caption", "WARC to links with a caption", "parquet to links")
    return [
        Figure(f"10 billion candidates, {source}", _CANDIDATES / rate[source] / 3600, "core hours")
        for source in sources
    ]


# -- a small crawl -------------------------------------------------------------------------


def _words(rng: random.Random, count: int) -> str:
    return " ".join(rng.choices(_WORDS.split(), k=count))


def _site(number: int, rng: random.Random) -> dict[str, Any]:
    """A page: its address, its links, its images in the ways that pages name them."""
    links = [
        {"path": "A@/href", "url": f"/page/{rng.random():.6f}.html", "text": _words(rng, 4)}
        for _ in range(rng.randint(40, 80))
    ]
    for place in range(rng.randint(8, 30)):
        name = f"{rng.random():.8f}-{place}.jpg"
        prefixes = [f"https://cdn-{place % 5}.example/uploads/2023/", "/img/", "", "//b.example/"]
        prefix = rng.choices([*prefixes, "../"], weights=[60, 20, 12, 5, 3])[0]
        image = {"path": "IMG@/src", "url": prefix + name}
        if rng.random() < 0.7:
            image["alt"] = _words(rng, 8)
        if rng.random() < 0.1:
            image["title"] = _words(rng, 5)
        links.append(image)
    rng.shuffle(links)
    url = f"http://www.site-{number % 997}.example/{number % 9}/page-{number}.html"
    base = f"http://www.site-{number % 997}.example/base/" if number % 20 == 0 else None
    return {"url": url, "base": base, "links": links, "title": _words(rng, 8)}


def _metadata(site: dict[str, Any], rng: random.Random) -> bytes:
    head: dict[str, Any] = {
        "Title": site["title"],
        "Metas": [{"name": f"og:{n}", "content": _words(rng, 10)} for n in range(12)],
        "Link": [{"path": "LINK@/href", "url": f"/{n}.css", "rel": "stylesheet"} for n in range(8)],
        "Scripts": [{"path": "SCRIPT@/src", "url": f"/js/{n}.js"} for n in range(10)],
    }
    if site["base"]:
        head["Base"] = site["base"]
    response = {
        "Response-Message": {"Status": "200", "Version": "HTTP/1.1", "Reason": "OK"},
        "Headers": {f"X-Header-{n}": _words(rng, 3) for n in range(15)},
        "HTML-Metadata": {"Head": head, "Links": site["links"]},
        "Entity-Digest": "sha1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    }
    envelope = {
        "Format": "WARC",
        "WARC-Header-Metadata": {"WARC-Type": "response", "WARC-Target-URI": site["url"]},
        "Payload-Metadata": {"HTTP-Response-Metadata": response, "Trailing-Slop-Length": "4"},
    }
    container = {"Filename": "x.warc.gz", "Compressed": True, "Offset": "1"}
    return json.dumps({"Container": container, "Envelope": envelope}).encode()


def _response(site: dict[str, Any]) -> bytes:
    """The page itself: its links between as much text and script as lies between real ones."""
    lines = [f"<!DOCTYPE html><html><head><meta charset=utf-8><title>{site['title']}</title>"]
    if site["base"]:
        lines.append(f"<base href='{site['base']}'>")
    lines.append(f"<script>{'var a = 1 < 2;' * 500}</script></head><body>")
    for link in site["links"]:
        if link["path"] == "IMG@/src":
            texts = "".join(f" {n}='{_attribute(link[n])}'" for n in ("alt", "title") if n in link)
            lines.append(f"<figure class='wide'><img src='{link['url']}'{texts}></figure>")
        else:
            lines.append(
                f"<div class='row'><p>{'words ' * 30}</p><a href='{link['url']}'>x</a></div>"
            )
    lines.append("</body></html>")
    head = "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
    return (head + "\n".join(lines)).encode()


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace("'", "&#39;")


def _member(kind: str, target: str, block: bytes) -> bytes:
    head = [
        *("WARC/1.0", f"WARC-Type: {kind}", "WARC-Date: 2024-05-01T12:00:00Z"),
        *(f"WARC-Target-URI: {target}", "WARC-Record-ID: <urn:uuid:00000000-0000-4000-8000-0>"),
        f"Content-Type: application/{'json' if kind == 'metadata' else 'http; msgtype=response'}",
        *(f"Content-Length: {len(block)}", "", ""),
    ]
    return gzip.compress("\r\n".join(head).encode() + block + b"\r\n\r\n", 6)


if __name__ == "__main__":
    main()
