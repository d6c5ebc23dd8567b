"""pipeline.ingest.crawls"""

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from pipeline.errors import BadInput
from pipeline.ingest.crawls import crawl_links


def _record(kind: str, block: bytes) -> bytes:
    head = [
        *("WARC/1.0", f"WARC-Type: {kind}", "WARC-Target-URI: http://a.example/p"),
        *("Content-Type: application/http", f"Content-Length: {len(block)}", "", ""),
    ]
    return gzip.compress("\r\n".join(head).encode() + block + b"\r\n\r\n")


def _wat(path: Path, captions: list[str]) -> str:
    links = [{"path": "IMG@/src", "url": f"{alt}.jpg", "alt": alt} for alt in captions]
    envelope = {
        "WARC-Header-Metadata": {"WARC-Target-URI": "http://a.example/p"},
        "Payload-Metadata": {"HTTP-Response-Metadata": {"HTML-Metadata": {"Links": links}}},
    }
    path.write_bytes(_record("metadata", json.dumps({"Envelope": envelope}).encode()))
    return str(path)


def test_images_of_wats_and_warcs_are_rows_alike_and_a_file_is_a_task(
    spark: SparkSession, tmp_path: Path
) -> None:
    wats = [_wat(tmp_path / f"{n}.wat.gz", [f"wat{n}"] * 5000) for n in range(3)]
    warc = tmp_path / "x.warc.gz"
    page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<img src=warc.jpg alt=warc>"
    warc.write_bytes(_record("response", page) + b"\x1f\x8b\x08 broken")
    links = crawl_links(spark, wats, [str(warc)])
    assert links.columns == ["url", "caption", "page_url", "reason"]
    assert links.rdd.getNumPartitions() == 4
    assert Counter(map(tuple, links.collect())) == {
        **{
            (f"http://a.example/wat{n}.jpg", f"wat{n}", "http://a.example/p", None): 5000
            for n in range(3)
        },
        ("http://a.example/warc.jpg", "warc", "http://a.example/p", None): 1,
        (None, None, None, "unreadable file"): 1,
    }


def test_a_crawl_file_that_is_missing_or_a_folder_is_named(
    spark: SparkSession, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=r"ingest\.wats: .*x\.wat\.gz does not exist"):
        crawl_links(spark, [str(tmp_path / "x.wat.gz")], [])
    with pytest.raises(BadInput, match=r"ingest\.warcs: .* is a folder: name its files"):
        crawl_links(spark, [], [str(tmp_path)])
