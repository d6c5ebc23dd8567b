"""The pairs' sources: a Common Crawl WAT file, and a table of addresses and captions."""

import gzip
import html
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.world.folder import Candidate

_DATE = "2024-05-01T12:00:00Z"


def write_wat(
    path: Path, candidates: Sequence[Candidate], base: str, rng: random.Random
) -> dict[str, int]:
    """Write `candidates` as the images of pages; say how much of what else was written."""
    told = {"wat_pages": 0, "wat_links": 0, "wat_no_caption": 0, "wat_broken": 0, "wat_no_html": 0}
    records = [_record("warcinfo", "crawl.wat", b"software: wit\r\nformat: WARC File Format 1.0")]
    begun = 0
    while begun < len(candidates):
        size = rng.randint(1, 12)
        told["wat_pages"] += 1
        page, head, links = _page(told["wat_pages"], candidates[begun : begun + size], base, rng)
        begun += size
        told["wat_links"] += sum(link["path"] == "IMG@/src" for link in links)
        told["wat_no_caption"] += sum(
            link["path"] == "IMG@/src" and not link.get("alt", "").strip() for link in links
        )
        records.append(_metadata(page, {"Head": head, "Links": links}))
    for number in range(max(1, told["wat_pages"] // 40)):
        told["wat_broken"] += 1
        whole = _payload(f"http://broken.example/{number}", {"Head": {}, "Links": []})
        records.append(_record("metadata", f"http://broken.example/{number}", whole[:-9]))
        told["wat_no_html"] += 1
        records.append(_metadata(f"http://plain.example/{number}", None))
    rng.shuffle(tail := records[1:])
    path.write_bytes(b"".join(gzip.compress(r, 6, mtime=0) for r in [records[0], *tail]))
    return told


def write_table(
    path: Path, candidates: Sequence[Candidate], base: str, rng: random.Random
) -> dict[str, int]:
    """Write `candidates` as a table, with rows between them that are no pairs."""
    rows: list[tuple[str | None, str | None]] = [(c.url, c.caption) for c in candidates]
    repeats = rng.sample(rows, max(2, len(rows) // 50))
    junk: dict[str, list[tuple[str | None, str | None]]] = {
        "table_no_url": [(None, "a red circle without an address")] * 3,
        "table_no_caption": [(f"{base}/img/none-{n}.jpg", None) for n in range(3)],
        "table_empty_caption": [(f"{base}/img/empty-{n}.jpg", "  "[:n]) for n in range(3)],
        "table_not_http": [
            ("data:image/gif;base64,R0lGODlhAQABAAAAACw=", "a blue star inside its own address"),
            ("file:///red-circle.jpg", "a red circle on the disk of the reader"),
            ("ftp://images.example/blue-star.jpg", "a blue star on a very old server"),
        ],
        "table_repeats": repeats,
    }
    for more in junk.values():
        rows += more
    rng.shuffle(rows)
    table = pa.table(
        {
            "url": pa.array([url for url, _ in rows], pa.string()),
            "caption": pa.array([caption for _, caption in rows], pa.string()),
        }
    )
    pq.write_table(table, path, compression="zstd")
    return {"table_rows": len(rows), **{name: len(more) for name, more in junk.items()}}


def _page(
    number: int, candidates: Sequence[Candidate], base: str, rng: random.Random
) -> tuple[str, dict[str, Any], list[dict[str, str]]]:
    """A page's URL, head and links; its images in one of the ways that pages name them."""
    style = rng.choice(("absolute", "rooted", "based", "schemeless"))
    page = f"http://pages-{number % 17}.example/{number}.html"
    head: dict[str, Any] = {"Title": f"Page {number}", "Metas": [{"charset": "utf-8"}]}
    if style == "rooted":
        page = f"{base}/pages/{number}.html"
    if style == "based":
        head["Base"] = f"{base}/img/"
    links = [{"path": "A@/href", "url": "/about.html", "text": "a red circle, but no picture"}]
    for candidate in candidates:
        url = candidate.url
        path = url.removeprefix(base)
        if url.startswith(f"{base}/"):
            if style == "rooted":
                url = rng.choice((path, f"..{path}"))
            elif style == "based":
                url = path.removeprefix("/img/")
            elif style == "schemeless":
                url = url.removeprefix("http:")
        # The alt text is written as the page wrote it: Common Crawl leaves entities in place.
        links.append({"path": "IMG@/src", "url": url, "alt": candidate.caption})
        if rng.random() < 0.2:
            links[-1]["title"] = html.unescape(candidate.caption)[:20]
    links.append({"path": "IMG@/src", "url": "/img/spacer.gif"})
    if rng.random() < 0.3:
        links.append({"path": "IMG@/src", "url": "/img/spacer.gif", "alt": " "})
    rng.shuffle(links)
    return page, head, links


def _payload(page: str, metadata: dict[str, Any] | None) -> bytes:
    response: dict[str, Any] = {
        "Response-Message": {"Status": "200", "Version": "HTTP/1.1", "Reason": "OK"},
        "Headers": {"Content-Type": "text/html" if metadata is not None else "text/plain"},
    }
    if metadata is not None:
        response["HTML-Metadata"] = metadata
    envelope = {
        "Format": "WARC",
        "WARC-Header-Length": "600",
        "Block-Digest": "sha1:DEMO",
        "Actual-Content-Length": "1000",
        "WARC-Header-Metadata": {
            "WARC-Type": "response",
            "WARC-Date": _DATE,
            "WARC-Target-URI": page,
            "Content-Type": "application/http; msgtype=response",
        },
        "Payload-Metadata": {
            "Actual-Content-Type": "application/http; msgtype=response",
            "HTTP-Response-Metadata": response,
        },
    }
    container = {"Filename": "crawl.warc.gz", "Compressed": True, "Offset": "0"}
    return json.dumps({"Container": container, "Envelope": envelope}).encode()


def _metadata(page: str, metadata: dict[str, Any] | None) -> bytes:
    return _record("metadata", page, _payload(page, metadata))


def _record(kind: str, target: str, payload: bytes) -> bytes:
    is_info = kind == "warcinfo"
    lines = [
        "WARC/1.0",
        f"WARC-Type: {kind}",
        f"WARC-{'Filename' if is_info else 'Target-URI'}: {target}",
        f"WARC-Date: {_DATE}",
        "WARC-Record-ID: <urn:uuid:00000000-0000-4000-8000-000000000000>",
        f"Content-Type: application/{'warc-fields' if is_info else 'json'}",
        f"Content-Length: {len(payload)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + payload + b"\r\n\r\n"
