"""pipeline.ingest.sources: crawls, and the tasks of all sources"""

import gzip
import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from pipeline.errors import BadInput
from pipeline.ingest import ingest, sources
from pipeline.settings import IngestSettings, TableSource


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
    parts = sources.sources_of(spark, IngestSettings(wats=wats, warcs=[str(warc)]))
    assert {name: len(some) for name, some in parts.items()} == {
        "ingest.wats": 3,
        "ingest.warcs": 1,
    }
    tasks = sources.tasks(spark, [(7, part) for some in parts.values() for part in some])
    assert tasks.rdd.getNumPartitions() == 4
    links = tasks.mapInArrow(sources.read, sources.LINKS_DDL)
    assert links.columns == ["url", "caption", "page_url", "reason", "source"]
    assert Counter(map(tuple, links.collect())) == {
        **{
            (f"http://a.example/wat{n}.jpg", f"wat{n}", "http://a.example/p", None, 7): 5000
            for n in range(3)
        },
        ("http://a.example/warc.jpg", "warc", "http://a.example/p", None, 7): 1,
        (None, None, None, "unreadable file", 7): 1,
    }


def test_a_crawl_file_that_is_missing_or_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"ingest\.wats: .*x\.wat\.gz does not exist"):
        sources.crawl_parts("wat", [str(tmp_path / "x.wat.gz")])
    with pytest.raises(BadInput, match=r"ingest\.warcs: .* is a folder: name its files"):
        sources.crawl_parts("warc", [str(tmp_path)])


def test_a_packed_text_that_is_shared_among_tasks_counts_once_beside_other_files(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [f"http://a.example/{n}\ta red circle no {n}\n" for n in range(300)]
    packed, plain = tmp_path / "x.tsv.gz", tmp_path / "y.parquet"
    packed.write_bytes(gzip.compress("".join([*rows, "http://a.example/9\t\n"]).encode()))
    pq.write_table(pa.table({"url": ["http://a.example/5"], "caption": ["a red circle"]}), plain)
    tables = [TableSource(path=str(path)) for path in (packed, plain)]
    wanted = IngestSettings(tables=tables, languages=[])
    told = []
    for part_bytes in (1 << 20, 10):
        monkeypatch.setattr(sources, "_PART_BYTES", part_bytes)
        candidates, per_source = ingest(spark, wanted)
        told.append((sorted(map(str, candidates.collect())), per_source))
    assert told[0] == told[1]
    assert told[0][1] == {
        str(packed): {"links": 301, "fit": 300, "no caption": 1},
        str(plain): {"links": 1, "fit": 1},
    }
